//! Where the root of a base image comes from, as its `dockerUrl` says.

use std::fmt;
use std::path::PathBuf;

use oci_client::Reference;

use crate::error::Failure;

/// A parsed `dockerUrl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The node's own interpreter: empty, `host`, or `host:` and a note for people.
    Host,
    /// A repository of a registry.
    Registry(Reference),
    /// An OCI image layout in a folder of this node, and the tag to take.
    Layout { path: PathBuf, tag: Option<String> },
    /// A tar of this node that holds an OCI image layout or what `docker save` wrote.
    Archive { path: PathBuf, tag: Option<String> },
}

impl Place {
    /// Reads a `dockerUrl`.
    ///
    /// # Errors
    /// When it is none of the forms, with the forms.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let url = url.trim();
        if url.is_empty() || url == "host" || url.starts_with("host:") {
            return Ok(Self::Host);
        }
        if let Some(rest) = url.strip_prefix("oci:") {
            let (path, tag) = path_and_tag(url, rest)?;
            return Ok(Self::Layout { path, tag });
        }
        for scheme in ["oci-archive:", "docker-archive:"] {
            if let Some(rest) = url.strip_prefix(scheme) {
                let (path, tag) = path_and_tag(url, rest)?;
                return Ok(Self::Archive { path, tag });
            }
        }
        let plain = url.strip_prefix("docker://").unwrap_or(url);
        let reference = plain.parse::<Reference>();
        reference.map(Self::Registry).map_err(|e| {
            Failure::of(format!(
                "dockerUrl {url:?} is no image reference ({e}): write host, NAME:TAG, \
                 docker://REGISTRY/NAME:TAG, oci:/FOLDER[:TAG], oci-archive:/FILE.tar or \
                 docker-archive:/FILE.tar"
            ))
        })
    }
}

fn path_and_tag(url: &str, rest: &str) -> Result<(PathBuf, Option<String>), Failure> {
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => (path, Some(tag.to_owned())),
        _ => (rest, None),
    };
    if !path.starts_with('/') {
        return Err(Failure::of(format!(
            "dockerUrl {url:?}: the path is not absolute, and nodes have no common folder"
        )));
    }
    Ok((path.into(), tag))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, tag) = match self {
            Self::Host => return f.write_str("host"),
            Self::Registry(reference) => return write!(f, "{reference}"),
            Self::Layout { path, tag } | Self::Archive { path, tag } => (path, tag),
        };
        write!(f, "{}", path.display())?;
        tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_host_is_the_host() {
        for url in ["", " ", "host", "host:python3"] {
            assert_eq!(Place::parse(url), Ok(Place::Host), "{url:?}");
        }
        for url in [
            "hosts",
            "dispatchframework/python3-base:0.0.7",
            "python:3.11",
        ] {
            assert!(matches!(Place::parse(url), Ok(Place::Registry(_))), "{url}");
        }
    }

    #[test]
    fn a_reference_has_a_registry_a_tag_or_a_digest() {
        let Ok(Place::Registry(reference)) = Place::parse("docker://localhost:5000/a/b:c") else {
            panic!("it names a registry");
        };
        assert_eq!(reference.registry(), "localhost:5000");
        assert_eq!(
            (reference.repository(), reference.tag()),
            ("a/b", Some("c"))
        );
    }

    #[test]
    fn layouts_and_archives_have_absolute_paths_and_perhaps_a_tag() {
        let layout = |path: &str, tag: Option<&str>| Place::Layout {
            path: path.into(),
            tag: tag.map(str::to_owned),
        };
        assert_eq!(Place::parse("oci:/a/b:c"), Ok(layout("/a/b", Some("c"))));
        assert_eq!(Place::parse("oci:/a:0/b"), Ok(layout("/a:0/b", None)));
        assert!(matches!(
            Place::parse("docker-archive:/a.tar"),
            Ok(Place::Archive { .. })
        ));
        for url in ["oci:a", "oci-archive:../a.tar", "oci:", "UPPER case"] {
            assert!(Place::parse(url).is_err(), "{url}");
        }
    }
}

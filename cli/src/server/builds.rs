//! Builds of images: what they may reach, and who hears what they print.

use std::sync::Arc;

use adapter_functions::{BuildSinks, Endpoint};
use adapter_kit::LineSink;
use anyhow::{Context, Result};
use engine_model::{LogLine, ResourceKey};
use engine_stream::Log;

/// Reads `HOST:PORT`; an address of IPv6 is in brackets.
pub(super) fn endpoint(text: &str) -> Result<Endpoint> {
    let parsed = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = port.parse().ok()?;
        (!host.is_empty()).then_some(Endpoint { host, port })
    });
    parsed.with_context(|| format!("worker.buildHosts: {text:?} is not HOST:PORT"))
}

/// Tells whoever listens what builds of images print.
pub(super) fn told(log: Arc<dyn Log>) -> BuildSinks {
    Arc::new(move |image| {
        Arc::new(Lines {
            log: log.clone(),
            image: image.clone(),
        })
    })
}

struct Lines {
    log: Arc<dyn Log>,
    image: ResourceKey,
}

impl LineSink for Lines {
    fn line(&self, line: LogLine) -> bool {
        let image = &self.image;
        self.log.tell_build_line(&image.org, &image.name, &line)
    }
}

#[cfg(test)]
mod tests {
    use super::endpoint as read;

    #[test]
    fn a_host_that_builds_may_reach_has_a_port() {
        let endpoint = |text: &str| read(text).map(|known| known.to_string());
        assert_eq!(endpoint("pypi.org:443").unwrap(), "pypi.org:443");
        assert_eq!(read("[::1]:80").unwrap().host, "::1");
        for wrong in ["pypi.org", ":443", "pypi.org:", "https://pypi.org"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}

//! Where a registry may send its reader: to another place by a redirect, and for a token.

use std::net::{IpAddr, Ipv4Addr};

use reqwest::Url;
use reqwest::redirect::Policy;

/// How often in a row it may send a reader on; those known do so once.
const REDIRECTS_MAX: usize = 4;

/// Why its reader does not go there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("to a place without encryption")]
    Plain,
    #[error("into an inner network, to {0}")]
    Inner(String),
    #[error("more than {REDIRECTS_MAX} times")]
    Often,
}

/// Follows few redirects, and none that [`go`] refuses. `inner` is whether the registry itself is
/// at an inner address.
pub(super) fn policy(inner: bool) -> Policy {
    Policy::custom(move |attempt| {
        let encrypted = attempt.previous().last().is_some_and(is_encrypted);
        let refusal = match go(attempt.url(), encrypted, inner) {
            Ok(()) if attempt.previous().len() > REDIRECTS_MAX => Refusal::Often,
            Ok(()) => return attempt.follow(),
            Err(refusal) => refusal,
        };
        attempt.error(refusal)
    })
}

/// Whether whoever speaks to a registry goes there: encryption is not given up, and nobody from
/// outside has this node ask around in its own network.
pub(super) fn go(to: &Url, encrypted: bool, inner: bool) -> Result<(), Refusal> {
    if encrypted && !is_encrypted(to) {
        return Err(Refusal::Plain);
    }
    if !inner && is_inner(to) {
        let host = to.host_str().unwrap_or_default();
        return Err(Refusal::Inner(host.to_owned()));
    }
    Ok(())
}

fn is_encrypted(url: &Url) -> bool {
    url.scheme() == "https"
}

/// Whether a URL says itself that it is of this machine or of a network that is nobody else's.
pub(super) fn is_inner(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let name = host.trim_end_matches('.');
    let ip = name.trim_matches(['[', ']']).parse::<IpAddr>();
    match ip.map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            let here = ip.octets()[0] == 0;
            here || shared || ip.is_loopback() || ip.is_private() || ip.is_link_local()
        }
        Ok(IpAddr::V6(ip)) => {
            let compatible = ip.to_ipv4().is_some_and(|ip| ip != Ipv4Addr::UNSPECIFIED);
            compatible
                || ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
        }
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("it is a URL")
    }

    #[test]
    fn nobody_is_sent_into_an_inner_network_from_outside() {
        for to in [
            "https://localhost/x",
            "https://a.localhost.:5000/",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://0.0.0.0/",
            "https://10.1.2.3:5000/",
            "https://172.16.0.1/",
            "https://192.168.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[::7f00:1]/",
            "https://[fe80::1]/",
            "https://[fd00::1]/",
        ] {
            let refused = go(&url(to), true, false);
            assert!(matches!(refused, Err(Refusal::Inner(_))), "{to}");
            assert_eq!(go(&url(to), true, true), Ok(()), "{to}");
        }
        for to in [
            "https://cdn.example/x",
            "https://localhost.example/",
            "https://8.8.8.8/",
            "https://172.32.0.1/",
            "https://100.128.0.1/",
            "https://[2606:4700::1]/",
        ] {
            assert_eq!(go(&url(to), true, false), Ok(()), "{to}");
        }
    }

    #[test]
    fn encryption_is_not_given_up() {
        let (plain, encrypted) = (url("http://a.example/"), url("https://a.example/"));
        assert_eq!(go(&plain, true, true), Err(Refusal::Plain));
        assert_eq!(
            go(&url("ftp://a.example/"), true, true),
            Err(Refusal::Plain)
        );
        assert_eq!(go(&plain, false, false), Ok(()));
        assert_eq!(go(&encrypted, false, false), Ok(()));
    }
}

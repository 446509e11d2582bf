//! Firewall rules: ranges of IPv4 addresses, which pg_hba.conf knows only as prefixes.

use std::net::Ipv4Addr;

use serde_json::{Map, Value};

/// The prefixes from which clients may connect; `None` if there is no rule, which means anywhere.
///
/// Rules are the parameter `firewallRules`: objects with `startIPAddress` and `endIPAddress`. A
/// range that cannot be read, or ends before it starts, lets nobody in.
pub(super) fn prefixes(parameters: &Map<String, Value>) -> Option<Vec<String>> {
    let rules = parameters.get("firewallRules")?.as_array()?;
    let ranges = rules.iter().filter_map(|rule| {
        let end_of = |key: &str| rule.get(key)?.as_str()?.parse::<Ipv4Addr>().ok();
        Some((end_of("startIPAddress")?, end_of("endIPAddress")?))
    });
    Some(
        ranges
            .flat_map(|(first, last)| split(first, last))
            .collect(),
    )
}

/// The fewest prefixes that make up a range.
fn split(first: Ipv4Addr, last: Ipv4Addr) -> Vec<String> {
    let (mut next, last) = (u64::from(u32::from(first)), u64::from(u32::from(last)));
    let mut prefixes = Vec::new();
    while next <= last {
        // The largest block that is aligned here and does not reach beyond the end.
        let aligned = if next == 0 {
            32
        } else {
            next.trailing_zeros().min(32)
        };
        let fitting = (last - next + 1).ilog2();
        let bits = aligned.min(fitting);
        let start = Ipv4Addr::from(u32::try_from(next).unwrap_or(u32::MAX));
        prefixes.push(format!("{start}/{}", 32 - bits));
        next += 1 << bits;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(first: &str, last: &str) -> Vec<String> {
        split(first.parse().unwrap(), last.parse().unwrap())
    }

    #[test]
    fn a_range_becomes_the_fewest_prefixes() {
        assert_eq!(of("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(of("10.0.0.1", "10.0.0.1"), ["10.0.0.1/32"]);
        assert_eq!(of("10.0.0.0", "10.0.1.255"), ["10.0.0.0/23"]);
        assert_eq!(
            of("10.0.0.1", "10.0.0.4"),
            ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]
        );
        assert_eq!(
            of("255.255.255.254", "255.255.255.255"),
            ["255.255.255.254/31"]
        );
        assert!(of("10.0.0.2", "10.0.0.1").is_empty());
    }

    #[test]
    fn no_rules_mean_anywhere_and_an_empty_list_means_nowhere() {
        let parameters = |text| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        assert_eq!(prefixes(&parameters("{}")), None);
        assert_eq!(
            prefixes(&parameters(r#"{"firewallRules":[]}"#)),
            Some(vec![])
        );
    }
}

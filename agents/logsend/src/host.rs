//! The host of logd: a name or an address, without a port.

use kit::exit::{Exit, Fatal};
use std::net::{IpAddr, Ipv6Addr};

/// The longest name that DNS can hold.
const NAME_BYTES_MAX: usize = 253;
/// Variables in which the manifests put the node's address, in order of preference.
const VARIABLES: [&str; 2] = ["HOST_IP", "NODE_IP"];

/// Accepts a host name, an IPv4 address, or an IPv6 address with or without brackets. Anything else would
/// never resolve, so the error shows the right form.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty: expected a host name or address, such as 10.0.0.7".to_owned());
    }
    let plain = text.split_once("://").map_or(text, |(_scheme, rest)| rest).trim_end_matches('/');
    let (host, port) = split(plain);
    if !is_host(host) {
        return Err(
            "expected a host name or address, such as logd.example.org, 10.0.0.7 or fd00::7".to_owned()
        );
    }
    let is_bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) == Some(host);
    if text == host || is_bracketed {
        return Ok(host.to_owned());
    }
    match port {
        Some(port) => Err(format!("the port has a flag of its own: --host {host} --port {port}")),
        None => Err(format!("expected the host alone: --host {host}")),
    }
}

/// Returns the address of this node's logd, the default of `--host`.
pub(crate) fn of_this_node() -> Result<String, Fatal> {
    from(|name| std::env::var(name).ok())
}

fn from(variable: impl Fn(&str) -> Option<String>) -> Result<String, Fatal> {
    let set = |name| Some((name, variable(name).filter(|value| !value.is_empty())?));
    let Some((name, value)) = VARIABLES.into_iter().find_map(set) else { return Ok("127.0.0.1".to_owned()) };
    parse(&value).map_err(|why| Fatal::new(Exit::Config, format!("${name} is {value:?}: {why}")))
}

/// Splits off a port: `host:6666`, `[fd00::7]:6666`. The colons of a bare IPv6 address are no separator.
fn split(text: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match text.split_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, Some(port)),
        _ => (text, None),
    }
}

fn is_host(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    // The system resolves a scope such as %eth0.
    let without_scope = text.split_once('%').map_or(text, |(address, _scope)| address);
    text.parse::<IpAddr>().is_ok()
        || without_scope.parse::<Ipv6Addr>().is_ok()
        || (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_name_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_hosts() {
        for host in ["logd", "logd.example.org.", "my_host-1", "10.0.0.7", "::1", "fe80::1%eth0"] {
            assert_eq!(parse(host).as_deref(), Ok(host));
        }
        assert_eq!(parse("[fd00::7]").as_deref(), Ok("fd00::7"));
    }

    #[test]
    fn other_forms_are_refused_with_the_right_one() {
        for (given, right) in [
            ("host:6666", "--host host --port 6666"),
            ("[fd00::7]:6666", "--host fd00::7 --port 6666"),
            ("tcp://10.0.0.7:6666", "--host 10.0.0.7 --port 6666"),
            ("http://logd/", "--host logd"),
            ("tcp://[::1]:7", "--host ::1 --port 7"),
            ("", "such as 10.0.0.7"),
            ("two words", "such as logd.example.org"),
            ("logd/path", "such as logd.example.org"),
            ("me@logd", "such as logd.example.org"),
            ("[]", "such as logd.example.org"),
            (":6666", "such as logd.example.org"),
            ("logd:http", "such as logd.example.org"),
            ("1.2.3.4:5:6", "such as logd.example.org"),
        ] {
            let why = parse(given).unwrap_err();
            assert!(why.contains(right), "{given}: {why}");
        }
    }

    #[test]
    fn variables_of_the_pod_are_checked_too() {
        let of = |host_ip: &'static str, node_ip: &'static str| {
            from(move |name| Some(if name == "HOST_IP" { host_ip } else { node_ip }.to_owned()))
        };
        assert_eq!(of("10.0.0.1", "10.0.0.2").unwrap(), "10.0.0.1");
        assert_eq!(of("", "10.0.0.2").unwrap(), "10.0.0.2");
        assert_eq!(of("", "").unwrap(), "127.0.0.1");
        let fatal = of("tcp://10.0.0.1:6666", "").unwrap_err();
        assert_eq!(fatal.exit(), Exit::Config);
        assert!(fatal.one_line().starts_with("$HOST_IP is"), "{fatal}");
    }
}

//! The name of this process: the Downward API's variables in a pod, else the host's name.

/// Names for logs, metrics and greetings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `NODE_NAME`, else the host name.
    pub node: String,
    /// `POD_NAME`, else the host name (in a pod they are the same unless `hostNetwork` is set).
    pub name: String,
    /// `POD_NAMESPACE`, if it is set.
    pub namespace: Option<String>,
    /// `HOST_IP`: the address of this node's daemons as seen from a pod.
    pub host_ip: Option<String>,
}

impl Identity {
    pub fn of_this_process() -> Identity {
        let host =
            hostname::get().map_or_else(|_| "localhost".into(), |name| name.to_string_lossy().into_owned());
        Identity::from(|name| std::env::var(name).ok(), &host)
    }

    fn from(variable: impl Fn(&str) -> Option<String>, host: &str) -> Identity {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        Identity {
            node: set("NODE_NAME").unwrap_or_else(|| host.to_owned()),
            name: set("POD_NAME").unwrap_or_else(|| host.to_owned()),
            namespace: set("POD_NAMESPACE"),
            host_ip: set("HOST_IP"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downward_api_wins_over_the_host_name() {
        let variables = |name: &str| match name {
            "NODE_NAME" => Some("node-1".to_owned()),
            "POD_NAME" => Some(String::new()),
            "HOST_IP" => Some("10.99.0.11".to_owned()),
            _ => None,
        };
        let identity = Identity::from(variables, "client-x7");
        assert_eq!((identity.node.as_str(), identity.name.as_str()), ("node-1", "client-x7"));
        assert_eq!((identity.namespace, identity.host_ip.as_deref()), (None, Some("10.99.0.11")));
    }
}

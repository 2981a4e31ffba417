//! A network for the containers of one test only.

use crate::container::{podman, podman_says};

pub struct Network {
    name: String,
}

impl Network {
    pub fn new(test: &str) -> Network {
        let name = format!("nodecrew-{}-{test}", std::process::id());
        podman_says(&["network", "create", "--disable-dns", &name]);
        Network { name }
    }

    pub fn option(&self) -> String {
        format!("--network={}", self.name)
    }

    /// Returns this host's address on the network.
    pub fn gateway(&self) -> String {
        let format = "{{range .Subnets}}{{.Gateway}}{{end}}";
        podman_says(&["network", "inspect", "--format", format, &self.name])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        podman(&["network", "rm", "--force", "--time=0", &self.name]);
    }
}

//! A real container registry on a free port.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Debian's docker-registry with an empty storage, killed on drop.
pub struct Registry {
    process: Child,
    address: String,
    _storage: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    /// Starts the registry and waits until it listens.
    pub fn start() -> Registry {
        let storage = tempfile::tempdir().unwrap();
        let config = storage.path().join("config.yml");
        let root = storage.path().display();
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {root}\nhttp:\n  addr: 127.0.0.1:0\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                Some(line.split_once("listening on ")?.1.split(['"', ' ', ',']).next()?.to_owned())
            })
            .expect("the registry listens");
        // Keep reading, so that a full pipe does not block the registry.
        std::thread::spawn(move || lines.for_each(drop));
        Registry { process, address, _storage: storage }
    }

    /// The address that it listens at, HOST:PORT.
    pub fn address(&self) -> &str {
        &self.address
    }
}

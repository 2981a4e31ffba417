//! A real kvd in this process, which can be stopped and restarted on its port.

use kit::daemon::Context;
use kit::disk::lock::Lock;
use kit::lifecycle::stop::Stop;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use trial::{Port, wait_until};

pub(crate) struct Kvd {
    port: Port,
    directory: TempDir,
    flags: Vec<String>,
    running: Option<(Stop, JoinHandle<()>)>,
}

impl Kvd {
    pub(crate) fn start() -> Kvd {
        Kvd::with(&[])
    }

    pub(crate) fn with(flags: &[&str]) -> Kvd {
        let directory = tempfile::tempdir().unwrap();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let mut kvd = Kvd { port: Port::reserve(), directory, flags, running: None };
        kvd.come_back();
        kvd
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.port.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Returns the address in the form that the course's client takes.
    pub(crate) fn host(&self) -> String {
        self.port.address.to_string()
    }

    /// Returns a path in the directory of this server's test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn come_back(&mut self) {
        let data = self.path("data").into_os_string();
        let http = OsString::from(self.port.address.to_string());
        let mut argv = vec!["kvd".into(), "--data".into(), data, "--http".into(), http];
        argv.extend(["--linger", "0s"].map(OsString::from));
        argv.extend(self.flags.iter().map(OsString::from));
        let settings = kit::settings::load("KVD_TEST_UNSET", argv).unwrap();
        let stop = Stop::by_hand(Duration::ZERO);
        let context = Context::new("kvd", stop.clone());
        // A process that another test is just starting holds the old listener and lock until its `exec`.
        wait_until("the last kvd is gone", || {
            TcpStream::connect(self.port.address).is_err() && Lock::shared(&self.path("data/lock")).is_ok()
        });
        let thread = std::thread::spawn(move || {
            kit::daemon::runtime().unwrap().block_on(kvd::control::run(settings, context)).unwrap();
        });
        self.running = Some((stop, thread));
        wait_until("kvd listens", || TcpStream::connect(self.port.address).is_ok());
    }

    pub(crate) fn go_away(&mut self) {
        self.stop().unwrap();
    }

    fn stop(&mut self) -> std::thread::Result<()> {
        let Some((stop, thread)) = self.running.take() else { return Ok(()) };
        stop.drain.cancel();
        stop.abort.cancel();
        thread.join()
    }
}

impl Drop for Kvd {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

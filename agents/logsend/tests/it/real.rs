//! logsend and the real logd together: plain, over TLS, and at the wrong port.

use crate::logsend::{run, stderr};
use crate::receiver::{free_port, numbered};
use kit::daemon::Context;
use kit::lifecycle::stop::Stop;
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use trial::{self_signed, wait_until};

struct Logd {
    port: u16,
    admin_port: u16,
    directory: TempDir,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Logd {
    fn start(directory: TempDir, flags: &[&str]) -> Logd {
        let (port, admin_port) = (free_port(), free_port());
        let file = directory.path().join("log");
        let (listen, admin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin_port}"));
        let argv = ["logd", "--file", file.to_str().unwrap(), "--listen", &listen, "--admin", &admin];
        let argv = argv.iter().chain(flags).map(OsString::from);
        let settings = kit::settings::load::<logd::settings::Flags>("LOGD_TEST_UNSET", argv).unwrap();
        let stop = Stop::by_hand(Duration::ZERO);
        let context = Context::new("logd", stop.clone());
        let (ready, admin) = (context.readiness.clone(), settings.flags.serve.admin);
        let thread = std::thread::spawn(move || {
            let serve = |context| logd::control::run(settings, context);
            let served = kit::daemon::host("logd", admin, context, serve);
            kit::daemon::runtime().unwrap().block_on(served).unwrap();
        });
        wait_until("logd is ready", || ready.is_ready());
        Logd { port, admin_port, directory, stop, thread: Some(thread) }
    }

    fn file(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("log")).unwrap()
    }
}

impl Drop for Logd {
    fn drop(&mut self) {
        // A drain needs a runtime, an abort does not.
        self.stop.drain.cancel();
        self.stop.abort.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn logd_gives_explicit_receipts() {
    let logd = Logd::start(tempfile::tempdir().unwrap(), &[]);
    let input = numbered(0..20_000);
    for flags in [&[][..], &["--batch-bytes", "4KiB"], &["--receipt", "close"]] {
        let output = run(logd.port, flags, &input);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains(" retries=0 "), "{}", stderr(&output));
    }
    assert!(logd.file() == input.repeat(3), "each line once, and no request is stored");
}

#[test]
fn logd_gives_explicit_receipts_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let next_year = SystemTime::now() + Duration::from_hours(24 * 365);
    let pair: [PathBuf; 2] = self_signed(directory.path(), "logd.test", "logd.test", next_year);
    let [cert, key] = pair.map(|path| path.to_str().unwrap().to_owned());
    let logd = Logd::start(directory, &["--tls-cert", &cert, "--tls-key", &key]);
    let input = numbered(0..2_000);
    let output = run(logd.port, &["--tls-ca", &cert, "--tls-name", "logd.test"], &input);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(logd.file() == input);
    // Send plain lines to a TLS port.
    let output = run(logd.port, &["--give-up", "200ms"], b"plain\n");
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
}

#[test]
fn the_admin_endpoint_is_not_taken_for_logd() {
    let logd = Logd::start(tempfile::tempdir().unwrap(), &[]);
    for flags in [&["--receipt", "explicit"], &["--receipt", "close"]] {
        let output = run(logd.admin_port, &[&["--give-up", "1s"], &flags[..]].concat(), b"one\n");
        assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
        assert!(stderr(&output).contains("this is not logd: it answered \"HTTP/1."), "{}", stderr(&output));
    }
    assert_eq!(logd.file(), b"");
}

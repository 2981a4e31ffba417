//! The access log: one line on stdout for each request, in the Common Log Format.

use jiff::Timestamp;
use kit::exit::Fatal;
use std::io::Write;
use std::net::IpAddr;
use tokio::sync::{mpsc, oneshot};

/// Limit on the lines that wait for stdout. At the limit, requests wait.
const LINES_MAX: usize = 1024;

/// Limit on the characters of a request line, because a client may make it very long.
const REQUEST_CHARS_MAX: usize = 256;

/// Writes the lines from a separate thread, so that a reader of stdout that stalls does not stop the probes.
#[derive(Clone, Debug)]
pub struct AccessLog(mpsc::Sender<String>);

impl AccessLog {
    /// Starts the thread. When all clones are dropped and their lines are written, it ends and the receiver
    /// completes.
    pub fn start(out: impl Write + Send + 'static) -> Result<(AccessLog, oneshot::Receiver<()>), Fatal> {
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        let (finished, end) = oneshot::channel();
        kit::daemon::spawn("rng-access-log", move || {
            write_all(waiting, out);
            let _ = finished.send(());
        })?;
        Ok((AccessLog(lines), end))
    }

    /// Passes a line to the thread. Waits while `LINES_MAX` lines wait. Drops the line if nobody reads
    /// stdout.
    pub async fn write(&self, line: String) {
        let _ = self.0.send(line).await;
    }
}

/// Writes all waiting lines with one call. Ends early if nobody reads stdout any more.
fn write_all(mut lines: mpsc::Receiver<String>, mut out: impl Write) {
    while let Some(mut text) = lines.blocking_recv() {
        for _ in 0..LINES_MAX {
            let Ok(line) = lines.try_recv() else { break };
            text.push_str(&line);
        }
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            return tracing::warn!(event = "access_log_ended", %error, "cannot write to stdout: no more access lines");
        }
    }
}

/// Formats the line of a request. The request is cut and escaped, so that no client can forge or break a
/// line.
pub fn format(peer: IpAddr, time: Timestamp, request: &str, status: u16, bytes: u64) -> String {
    let peer = peer.to_canonical();
    let time = time.strftime("%d/%b/%Y:%H:%M:%S +0000");
    let request: String = request.chars().take(REQUEST_CHARS_MAX).flat_map(char::escape_default).collect();
    let bytes = if bytes == 0 { "-".to_owned() } else { bytes.to_string() };
    format!("{peer} - - [{time}] \"{request}\" {status} {bytes}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, request: &str) -> String {
        let time = "2026-11-28T09:05:07Z".parse().unwrap();
        format(peer.parse().unwrap(), time, request, 200, 32)
    }

    #[test]
    fn line_has_the_common_log_format() {
        let expected = "10.1.2.3 - - [28/Nov/2026:09:05:07 +0000] \"GET /32 HTTP/1.1\" 200 32\n";
        assert_eq!(of("10.1.2.3", "GET /32 HTTP/1.1"), expected);
        assert_eq!(of("::ffff:10.1.2.3", "GET /32 HTTP/1.1"), expected);
        assert!(of("fe80::7", "GET / HTTP/1.1").starts_with("fe80::7 - - ["));
    }

    #[test]
    fn request_is_cut_and_escaped() {
        let line = of("::1", "GET /\"\r\nx\u{202e}\u{7f} HTTP/1.1");
        assert!(line.contains(r#""GET /\"\r\nx\u{202e}\u{7f} HTTP/1.1" 200"#), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        let line = of("::1", &"x".repeat(100_000));
        assert!(line.len() < 2 * REQUEST_CHARS_MAX, "{}", line.len());
    }
}

//! One timer per connection for the heads of all its requests.

use hyper::rt::{Sleep, Timer};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A timer that stays registered and is only postponed. hyper makes a timer for each head and drops it when
/// the head has come. Registering one costs a lock. In a quiet daemon it also costs a system call, which
/// wakes a runtime that is already awake.
#[derive(Clone, Debug)]
pub struct HeadTimer(Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>);

impl HeadTimer {
    /// Creates the timer of one connection, which never waits for two heads at once.
    pub fn new() -> HeadTimer {
        HeadTimer(Arc::new(Mutex::new(Box::pin(tokio::time::sleep(Duration::ZERO)))))
    }

    fn lock(&self) -> MutexGuard<'_, Pin<Box<tokio::time::Sleep>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timer for HeadTimer {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.lock().as_mut().reset(deadline.into());
        Box::pin(HeadSleep(self.clone()))
    }
}

/// The wait for one head.
struct HeadSleep(HeadTimer);

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.lock().as_mut().poll(context)
    }
}

impl Sleep for HeadSleep {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const WITHIN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_head_has_its_own_timeout() {
        let (mut client, server) = tokio::io::duplex(1024);
        let service = service_fn(|_: Request<Incoming>| async {
            tokio::time::sleep(WITHIN * 3).await;
            Ok::<_, Infallible>(Response::new(String::new()))
        });
        let served = tokio::spawn(
            http1::Builder::new()
                .timer(HeadTimer::new())
                .header_read_timeout(WITHIN)
                .serve_connection(TokioIo::new(server), service),
        );
        for _ in 0..3 {
            tokio::time::sleep(WITHIN - Duration::from_secs(1)).await;
            client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
            assert!(client.read(&mut [0; 1024]).await.unwrap() > 0, "closed though the head came in time");
        }
        let answered = tokio::time::Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert!(served.await.unwrap().is_err(), "half a head was enough");
        assert_eq!(answered.elapsed().as_secs(), WITHIN.as_secs());
    }
}

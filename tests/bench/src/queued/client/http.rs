//! A client of queued's own API: several items are one batch, and a lease carries the acks of the previous
//! one.

use super::Order;
use super::wire::Wire;
use anyhow::{Context, bail};

pub struct Client {
    wire: Wire,
    items: usize,
    push: Vec<u8>,
    /// Acks of the current leases, which the next request carries.
    acks: String,
}

impl Client {
    pub fn new(wire: Wire, order: Order) -> Client {
        let push = match order.items {
            1 => order.pushes(|body| request("items", body)),
            _ => request("batch", &order.pushes(|body| [body, b"\n"].concat())),
        };
        Client { wire, items: order.items, push, acks: String::new() }
    }

    pub async fn push(&mut self) -> anyhow::Result<()> {
        self.wire.send(&self.push).await?;
        answer(&mut self.wire).await.map(drop)
    }

    pub async fn cycle(&mut self) -> anyhow::Result<usize> {
        let wish = format!("{{\"max\":{},\"ack\":[{}]}}", self.items, self.acks);
        self.wire.send(&request("lease", wish.as_bytes())).await?;
        let answer = std::str::from_utf8(answer(&mut self.wire).await?)?;
        self.acks.clear();
        let mut count = 0;
        let items = answer.split("\"done\":").next().unwrap_or_default();
        for item in items.split("\"id\":\"").skip(1) {
            let id = item.split('"').next().unwrap_or_default();
            let token = item.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next());
            let token = token.with_context(|| format!("no token in {item:?}"))?;
            let comma = if count > 0 { "," } else { "" };
            self.acks += &format!("{comma}{{\"id\":\"{id}\",\"token\":\"{token}\"}}");
            count += 1;
        }
        Ok(count)
    }
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /v1/queues/q/{path} HTTP/1.1\r\nHost: q\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Reads an answer and returns its body. Of the head, only the status and the length matter.
async fn answer(wire: &mut Wire) -> anyhow::Result<&[u8]> {
    let head = wire.until(b"\r\n\r\n").await?;
    if !head.starts_with(b"HTTP/1.1 20") {
        bail!("queued answered {:?}", String::from_utf8_lossy(head));
    }
    let name = b"content-length: ";
    let length = memchr::memmem::find(head, name).context("no content-length")? + name.len();
    let digits = head[length..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    wire.bytes(length).await
}

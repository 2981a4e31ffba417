//! A client of queued's own API: several items are one batch, and a lease carries the acks of the previous
//! one.

use super::Order;
use crate::wire::Wire;
use anyhow::Context;

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
        self.wire.http_answer().await.map(drop)
    }

    pub async fn cycle(&mut self) -> anyhow::Result<usize> {
        let wish = format!("{{\"max\":{},\"ack\":[{}]}}", self.items, self.acks);
        self.wire.send(&request("lease", wish.as_bytes())).await?;
        let answer = std::str::from_utf8(self.wire.http_answer().await?)?;
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

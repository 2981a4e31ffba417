//! A beanstalkd client: put, reserve, delete.

use super::Order;
use crate::wire::Wire;
use anyhow::Context;
use std::fmt::Write as _;

pub struct Client {
    wire: Wire,
    order: Order,
    push: Vec<u8>,
    take: Vec<u8>,
}

impl Client {
    pub fn new(wire: Wire, order: Order) -> Client {
        let head = format!("put 0 0 60 {}\r\n", order.body_bytes);
        let push = order.pushes(|body| [head.as_bytes(), body, b"\r\n"].concat());
        Client { wire, order, push, take: b"reserve-with-timeout 0\r\n".repeat(order.items) }
    }

    pub async fn push(&mut self) -> anyhow::Result<()> {
        self.wire.send(&self.push).await?;
        for _ in 0..self.order.items {
            self.wire.expect("INSERTED").await?;
        }
        Ok(())
    }

    pub async fn cycle(&mut self) -> anyhow::Result<usize> {
        self.wire.send(&self.take).await?;
        let (mut count, mut done) = (0, String::new());
        for _ in 0..self.order.items {
            let line = self.wire.line().await?;
            let Some(job) = line.strip_prefix("RESERVED ") else { continue };
            let (id, _) = job.split_once(' ').context("no length")?;
            write!(done, "delete {id}\r\n")?;
            self.wire.bytes(self.order.body_bytes + 2).await?;
            count += 1;
        }
        self.wire.send(done.as_bytes()).await?;
        for _ in 0..count {
            self.wire.expect("DELETED").await?;
        }
        Ok(count)
    }
}

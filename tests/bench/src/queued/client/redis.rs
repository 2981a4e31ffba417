//! Redis clients, also used for Valkey. They use the reliable queues of its documentation: a list with a
//! second one for items in progress, or a stream with a consumer group.

use super::Order;
use crate::wire::Wire;
use anyhow::{Context, bail};

pub struct List {
    wire: Wire,
    items: usize,
    push: Vec<u8>,
    take: Vec<u8>,
}

impl List {
    pub fn new(wire: Wire, order: Order) -> List {
        List {
            wire,
            items: order.items,
            push: order.pushes(|body| command(&[b"LPUSH", b"q", body])),
            take: command(&[b"RPOPLPUSH", b"q", b"p"]).repeat(order.items),
        }
    }

    pub async fn push(&mut self) -> anyhow::Result<()> {
        self.wire.send(&self.push).await?;
        for _ in 0..self.items {
            self.wire.expect(":").await?;
        }
        Ok(())
    }

    pub async fn cycle(&mut self) -> anyhow::Result<usize> {
        self.wire.send(&self.take).await?;
        let (mut count, mut done) = (0, Vec::new());
        for _ in 0..self.items {
            if let Some(body) = value(&mut self.wire).await? {
                done.extend(command(&[b"LREM", b"p", b"1", body]));
                count += 1;
            }
        }
        self.wire.send(&done).await?;
        for _ in 0..count {
            self.wire.expect(":").await?;
        }
        Ok(count)
    }
}

pub struct Stream {
    wire: Wire,
    items: usize,
    push: Vec<u8>,
    take: Vec<u8>,
}

impl Stream {
    pub async fn new(mut wire: Wire, order: Order, number: u16) -> anyhow::Result<Stream> {
        // The first connection creates the group; the others are answered that it exists.
        wire.send(&command(&[b"XGROUP", b"CREATE", b"q", b"g", b"0", b"MKSTREAM"])).await?;
        wire.line().await?;
        let (consumer, count) = (number.to_string(), order.items.to_string());
        let group: [&[u8]; 4] = [b"XREADGROUP", b"GROUP", b"g", consumer.as_bytes()];
        let wish: [&[u8]; 5] = [b"COUNT", count.as_bytes(), b"STREAMS", b"q", b">"];
        Ok(Stream {
            wire,
            items: order.items,
            push: order.pushes(|body| command(&[b"XADD", b"q", b"*", b"b", body])),
            take: command(&[&group[..], &wish[..]].concat()),
        })
    }

    pub async fn push(&mut self) -> anyhow::Result<()> {
        self.wire.send(&self.push).await?;
        for _ in 0..self.items {
            value(&mut self.wire).await?;
        }
        Ok(())
    }

    pub async fn cycle(&mut self) -> anyhow::Result<usize> {
        self.wire.send(&self.take).await?;
        // *1 *2 q, and for each item: *2 id *2 b BODY
        match self.wire.line().await? {
            "*-1" => return Ok(0),
            "*1" => {}
            other => bail!("Redis answered {other:?}"),
        }
        self.wire.expect("*").await?;
        value(&mut self.wire).await?;
        let count = self.wire.line().await?;
        let count: usize = count.strip_prefix('*').with_context(|| count.to_owned())?.parse()?;
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            self.wire.expect("*").await?;
            ids.push(value(&mut self.wire).await?.context("no id")?.to_owned());
            self.wire.expect("*").await?;
            value(&mut self.wire).await?;
            value(&mut self.wire).await?;
        }
        let mut words: Vec<&[u8]> = vec![b"XACK", b"q", b"g"];
        words.extend(ids.iter().map(Vec::as_slice));
        self.wire.send(&command(&words)).await?;
        self.wire.expect(":").await?;
        Ok(count)
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    command
}

/// Reads one bulk string; `None` is nil.
async fn value(wire: &mut Wire) -> anyhow::Result<Option<&[u8]>> {
    let line = wire.line().await?;
    let length: i64 = line.strip_prefix('$').with_context(|| line.to_owned())?.parse()?;
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    Ok(wire.bytes(length + 2).await?.get(..length))
}

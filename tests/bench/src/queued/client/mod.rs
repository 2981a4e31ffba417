//! One connection to a server, in that server's own protocol.

mod beanstalkd;
mod http;
mod nats;
mod redis;

use super::server::{Keeping, Peer};
use crate::wire::Wire;
use fastrand::Rng;

/// The work of one request. Several items go in one request where the protocol has batches, else in requests
/// that do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub body_bytes: usize,
    pub items: usize,
}

impl Order {
    /// Generates the bodies. All differ, and none can be compressed: some servers compress what they hold.
    fn bodies(self) -> impl Iterator<Item = Vec<u8>> {
        let mut rng = Rng::with_seed(1);
        std::iter::repeat_with(move || {
            let letter = |_| rng.u8(b'a'..=b'z');
            (0..self.body_bytes).map(letter).collect()
        })
        .take(self.items)
    }

    /// Builds one request for each item.
    fn pushes(self, request: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        self.bodies().flat_map(|body| request(&body)).collect()
    }
}

/// A client whose push request is built once, so that sending it costs the same for every protocol.
pub enum Client {
    Queued(http::Client),
    RedisList(redis::List),
    RedisStream(redis::Stream),
    Beanstalkd(beanstalkd::Client),
    JetStream(nats::Client),
}

impl Client {
    /// Connects to a server. `number` distinguishes the connections of one server.
    pub async fn connect(
        peer: Peer,
        keeping: Keeping,
        order: Order,
        port: u16,
        number: u16,
    ) -> anyhow::Result<Client> {
        let wire = Wire::connect(peer.name(), port).await?;
        Ok(match peer {
            Peer::Queued => Client::Queued(http::Client::new(wire, order)),
            Peer::RedisList | Peer::ValkeyList => Client::RedisList(redis::List::new(wire, order)),
            Peer::RedisStream | Peer::ValkeyStream => {
                Client::RedisStream(redis::Stream::new(wire, order, number).await?)
            }
            Peer::Beanstalkd => Client::Beanstalkd(beanstalkd::Client::new(wire, order)),
            Peer::JetStream => Client::JetStream(nats::Client::new(wire, order, number, keeping).await?),
        })
    }

    pub async fn push(&mut self) -> anyhow::Result<()> {
        match self {
            Client::Queued(client) => client.push().await,
            Client::RedisList(client) => client.push().await,
            Client::RedisStream(client) => client.push().await,
            Client::Beanstalkd(client) => client.push().await,
            Client::JetStream(client) => client.push().await,
        }
    }

    /// Leases items and acks them. Returns how many there were.
    pub async fn cycle(&mut self) -> anyhow::Result<usize> {
        match self {
            Client::Queued(client) => client.cycle().await,
            Client::RedisList(client) => client.cycle().await,
            Client::RedisStream(client) => client.cycle().await,
            Client::Beanstalkd(client) => client.cycle().await,
            Client::JetStream(client) => client.cycle().await,
        }
    }
}

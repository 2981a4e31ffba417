//! Volume per sender: a bounded table by address, for the page.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest number of addresses in the table. Strangers may come from any number.
const PEERS_MAX: usize = 256;

/// The volume of one address. Each of its connections holds a reference and adds to it.
#[derive(Debug, Default)]
pub struct Volume {
    bytes: AtomicU64,
    connections: AtomicU64,
}

impl Volume {
    pub fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A peer for display. `None` as the address: all peers without an entry of their own, or that lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    pub address: Option<IpAddr>,
    pub bytes: u64,
    pub connections: u64,
    pub open: usize,
}

#[derive(Debug, Default)]
struct Table {
    peers: BTreeMap<IpAddr, Arc<Volume>>,
    others: Arc<Volume>,
}

/// The table; all clones share it.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<Mutex<Table>>);

impl Peers {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the volume for a new connection. A full table drops its smallest entry without open
    /// connections. If there is none, the new address gets no entry of its own.
    pub fn connected(&self, address: IpAddr) -> Arc<Volume> {
        let address = address.to_canonical();
        let mut table = self.lock();
        if table.peers.len() >= PEERS_MAX && !table.peers.contains_key(&address) {
            table.drop_smallest();
        }
        let has_room = table.peers.len() < PEERS_MAX || table.peers.contains_key(&address);
        let volume = match has_room {
            true => table.peers.entry(address).or_default().clone(),
            false => table.others.clone(),
        };
        volume.connections.fetch_add(1, Ordering::Relaxed);
        volume
    }

    /// Returns at most `max` peers, the largest first, followed by the sum of all others.
    pub fn largest(&self, max: usize) -> Vec<PeerView> {
        let table = self.lock();
        let mut views: Vec<_> =
            table.peers.iter().map(|(address, volume)| view(Some(*address), volume)).collect();
        views.sort_by_key(|peer| std::cmp::Reverse(peer.bytes));
        let small = views.split_off(views.len().min(max));
        let mut others = view(None, &table.others);
        for peer in &small {
            others.bytes += peer.bytes;
            others.connections += peer.connections;
            others.open += peer.open;
        }
        if others.connections > 0 {
            views.push(others);
        }
        views
    }
}

impl Table {
    fn drop_smallest(&mut self) {
        let idle = self.peers.iter().filter(|(_, volume)| Arc::strong_count(volume) == 1);
        let smallest =
            idle.min_by_key(|(_, volume)| volume.bytes.load(Ordering::Relaxed)).map(|(address, _)| *address);
        let Some(volume) = smallest.and_then(|address| self.peers.remove(&address)) else { return };
        self.others.bytes.fetch_add(volume.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.others.connections.fetch_add(volume.connections.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn view(address: Option<IpAddr>, volume: &Arc<Volume>) -> PeerView {
    PeerView {
        address,
        bytes: volume.bytes.load(Ordering::Relaxed),
        connections: volume.connections.load(Ordering::Relaxed),
        open: Arc::strong_count(volume) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn volumes_add_up_by_address() {
        let peers = Peers::default();
        let first = peers.connected("10.0.0.1".parse().unwrap());
        peers.connected("::ffff:10.0.0.1".parse().unwrap()).add(5);
        peers.connected("10.0.0.2".parse().unwrap()).add(7);
        first.add(10);
        let seen: Vec<_> = peers
            .largest(9)
            .iter()
            .map(|p| (p.address.unwrap().to_string(), p.bytes, p.connections, p.open))
            .collect();
        assert_eq!(seen, [("10.0.0.1".to_owned(), 15, 2, 1), ("10.0.0.2".to_owned(), 7, 1, 0)]);
    }

    #[test]
    fn peer_table_is_bounded() {
        let peers = Peers::default();
        let open = peers.connected(address(0));
        for n in 1..10_000 {
            peers.connected(address(n)).add(if n == 77 { 1000 } else { 2 });
        }
        open.add(1);
        assert_eq!(peers.lock().peers.len(), PEERS_MAX);
        let views = peers.largest(3);
        assert_eq!((views.len(), views[0].address, views[0].bytes), (4, Some(address(77)), 1000));
        assert_eq!(views.iter().map(|peer| peer.bytes).sum::<u64>(), 1000 + 9998 * 2 + 1);
        assert_eq!(views.iter().map(|peer| peer.connections).sum::<u64>(), 10_000);
        assert!(peers.lock().peers.contains_key(&address(0)), "an open connection keeps its place");
    }

    #[test]
    fn peers_beyond_the_table_share_an_entry() {
        let peers = Peers::default();
        let open: Vec<_> = (0..300).map(|n| peers.connected(address(n))).collect();
        open.iter().for_each(|volume| volume.add(1));
        assert_eq!(peers.lock().peers.len(), PEERS_MAX);
        let others = *peers.largest(PEERS_MAX).last().unwrap();
        assert_eq!((others.address, others.bytes, others.open), (None, 44, 44));
    }
}

//! Faults under kvd: a write that was answered during a fault or before a kill is there at the next start.
//! kvd may end when its disk fails, but must report the reason.

use super::{Traced, ready_or_clear, under_each_fault};
use crate::http::Http;
use crate::keys::{self, Keys};
use std::net::SocketAddr;
use std::path::Path;
use trial::{Process, wait_until};

/// The number of cycles: enough to copy the log into the database and to start the log again.
const CYCLES: usize = 300;

fn scenario(directory: &Path, traced: &Traced) {
    let data = directory.join("data");
    let mut paths = vec![data.clone(), data.join("lock")];
    paths.extend(["", "-wal", "-shm", "-journal"].map(|end| data.join(format!("kvd.sqlite{end}"))));
    let keys = Keys::default();
    let mut command = traced.command("kvd", directory, &paths);
    keys::configure(&mut command, &data);
    let agent = Process::start(&mut command);
    if ready_or_clear(&agent, &data) {
        // From here on, the agent may end at any moment.
        let _ = cycles(&keys, agent.address("http"));
        agent.kill9();
    }
    let agent = Process::start_ready(&mut keys::command(&data));
    let mut http = Http::connect(agent.address("http")).unwrap();
    keys.check(&mut http);
    keys.make(&mut http).unwrap();
    assert!(keys.put(&mut http, 0).unwrap(), "it does not go on");
    agent.kill9();
}

fn cycles(keys: &Keys, address: SocketAddr) -> std::io::Result<()> {
    let mut http = Http::connect(address)?;
    keys.make(&mut http)?;
    for _ in 0..CYCLES {
        keys.put(&mut http, 0)?;
        keys.increment(&mut http)?;
    }
    let mut put = Ok(false);
    wait_until("that it recovers", || {
        put = keys.put(&mut http, 0);
        !matches!(put, Ok(false))
    });
    put.map(drop)
}

#[test]
fn kvd_keeps_its_answers_under_every_fault() {
    under_each_fault("kvd", scenario);
}

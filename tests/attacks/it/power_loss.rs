//! The power is lost at a random moment under load; what was promised to be on the disk is there afterwards.

mod logcd;
mod logd;
mod queued;

use crate::agent::Agent;

/// A start of the agent that must succeed.
fn started(mut agent: Agent) -> Agent {
    if !agent.becomes_ready() {
        let status = agent.join();
        panic!("it did not start again ({status}): {:#?}", agent.last_events());
    }
    agent
}

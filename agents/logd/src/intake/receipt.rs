//! Receipts: proofs that lines are in the file or on the disk, and the syncs that they wait for.

use super::Intake;
use crate::syncer::Synced;
use std::time::Duration;

/// The lines of a connection may not be safe, so it gets no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSafe;

impl Intake {
    /// Resolves when everything taken so far is safe: on the disk if `always`, otherwise in the file.
    pub async fn receipt(&self, always: bool, failures_before: u64) -> Result<(), NotSafe> {
        let position = self.state.borrow().taken;
        self.write_batch();
        self.reach_file(position).await?;
        if !always {
            return Ok(());
        }
        let mut synced = self.syncer.watch();
        let failed = |synced: &Synced| synced.failures != failures_before;
        loop {
            self.syncer.want();
            let reached = |synced: &Synced| synced.position >= position || failed(synced);
            let outcome = *synced.wait_for(reached).await.map_err(|_| NotSafe)?;
            // The pages lost by a failed sync may be this connection's, and no later sync brings them back.
            if failed(&outcome) {
                return Err(NotSafe);
            }
            // The file may have been removed while the sync ran. The copy of its content needs another sync.
            self.look_at_file();
            self.reach_file(position).await?;
            let now = self.syncer.synced();
            if reached(&now) && !failed(&now) {
                return Ok(());
            }
        }
    }

    /// Returns the number of failed syncs so far. A connection compares its beginning with its end.
    pub fn sync_failures(&self) -> u64 {
        self.syncer.synced().failures
    }

    /// Runs syncs as they become due: at once for a receipt, otherwise `within` after a write.
    pub async fn sync_when_due(&self, within: Duration) {
        loop {
            self.syncer.due(within).await;
            let position = self.written.borrow().position;
            if self.syncer.synced().position >= position {
                continue;
            }
            let sync = self.state.borrow_mut().appender.begin_sync();
            let result = self.syncer.run(position, sync).await;
            self.state.borrow_mut().appender.end_sync(result.is_ok());
        }
    }

    /// Syncs everything that was written, before the process ends.
    pub fn sync_now(&self) {
        let position = self.written.borrow().position;
        let sync = self.state.borrow_mut().appender.begin_sync();
        let result = self.syncer.run_here(position, &sync);
        self.state.borrow_mut().appender.end_sync(result.is_ok());
    }
}

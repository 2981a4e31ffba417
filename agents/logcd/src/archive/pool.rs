//! Compresses blocks on several threads, and returns the results in the order of the jobs.

use crate::archive::block::Block;
use crate::archive::codec::Packer;
use crate::archive::pack_error::PackError;
use crate::config::Packing;
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// One block to compress, with its buffers, which are reused.
#[derive(Default)]
pub struct Job {
    /// The dictionary, followed by the block.
    pub bytes: Vec<u8>,
    pub dictionary_len: usize,
    pub packed: Vec<u8>,
    /// True if the result is already known, such as for a hole.
    pub ready: bool,
    plain_crc: u32,
    packed_crc: u32,
}

impl Job {
    fn run(&mut self, packer: &mut Packer) -> Result<(), PackError> {
        let (dictionary, plain) = self.bytes.split_at(self.dictionary_len);
        if !self.ready {
            self.packed.clear();
            packer.pack(dictionary, plain, &mut self.packed)?;
        }
        self.plain_crc = crc32fast::hash(plain);
        self.packed_crc = crc32fast::hash(&self.packed);
        Ok(())
    }

    pub fn block(&self) -> Result<Block, PackError> {
        let len = |len: usize| u32::try_from(len).map_err(|_| PackError::too_long());
        Ok(Block {
            plain_len: len(self.bytes.len() - self.dictionary_len)?,
            plain_crc: self.plain_crc,
            packed_len: len(self.packed.len())?,
            packed_crc: self.packed_crc,
        })
    }
}

struct WorkerThread {
    jobs: Sender<Job>,
    done: Receiver<Result<Job, PackError>>,
    thread: JoinHandle<()>,
}

/// A queue of jobs, whose results come out in the order of the jobs. Without workers, `put` compresses the
/// blocks itself.
pub struct Pool {
    own: Packer,
    workers: Vec<WorkerThread>,
    /// The workers that have jobs, in the order of the jobs.
    busy: VecDeque<usize>,
    next: usize,
    spare: Vec<Job>,
}

impl Pool {
    pub fn new(packing: &Packing) -> Result<Pool, PackError> {
        Ok(Pool {
            own: packing.packer()?,
            workers: Vec::new(),
            busy: VecDeque::new(),
            next: 0,
            spare: Vec::new(),
        })
    }

    /// Starts threads, which inherit the priority of this one.
    pub fn grow(&mut self, threads: usize, packing: &Packing) -> io::Result<()> {
        while self.workers.len() < threads {
            let (jobs, inbox) = channel::<Job>();
            let (outbox, done) = channel();
            let mut packer = packing.packer().map_err(io::Error::other)?;
            let work = move || {
                for mut job in inbox {
                    let result = job.run(&mut packer);
                    if outbox.send(result.map(|()| job)).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("logcd-pack".to_owned()).spawn(work)?;
            self.workers.push(WorkerThread { jobs, done, thread });
        }
        Ok(())
    }

    /// Returns the packer of this thread, for headers and padding.
    pub fn own(&mut self) -> &mut Packer {
        &mut self.own
    }

    /// Returns buffers for the next job.
    pub fn job(&mut self) -> Job {
        let mut job = self.spare.pop().unwrap_or_default();
        job.bytes.clear();
        job.packed.clear();
        job.ready = false;
        job
    }

    pub fn give_back(&mut self, job: Job) {
        self.spare.push(job);
    }

    /// Adds a job. If the queue is then full, waits for the oldest job and returns it.
    pub fn put(&mut self, mut job: Job) -> Result<Option<Job>, PackError> {
        if self.workers.is_empty() {
            job.run(&mut self.own)?;
            return Ok(Some(job));
        }
        let worker = self.next % self.workers.len();
        self.next += 1;
        self.workers[worker].jobs.send(job).map_err(|_| PackError::thread_gone())?;
        self.busy.push_back(worker);
        if self.busy.len() > 2 * self.workers.len() { self.take() } else { Ok(None) }
    }

    /// Waits for the oldest job, if there is one, and returns it.
    pub fn take(&mut self) -> Result<Option<Job>, PackError> {
        let Some(worker) = self.busy.pop_front() else { return Ok(None) };
        self.workers[worker].done.recv().map_err(|_| PackError::thread_gone())?.map(Some)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for WorkerThread { jobs, done, thread } in self.workers.drain(..) {
            drop((jobs, done));
            let _ = thread.join();
        }
    }
}

//! The progress of a rotation, and the numbers of the rotated files.

/// State of a rotation, which takes two steps. Each step may fail and be retried.
#[derive(Debug)]
pub(super) struct RotationState {
    step: Step,
    next_number: u64,
    /// Number of the newest rotated file that is complete. While a rotation is half done, it is not the
    /// number of the newest file.
    newest_finished: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The open file has its proper name.
    InPlace,
    /// The open file was renamed, but its successor could not take its place: lines still go to the old one.
    Renamed,
    /// The open file ends within a line, because even cutting it back failed. Nothing may be written between
    /// the two parts of that line.
    MidLine { renamed: bool },
}

impl RotationState {
    pub(super) fn after(newest_number: u64) -> RotationState {
        RotationState { step: Step::InPlace, next_number: newest_number + 1, newest_finished: newest_number }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    pub(super) fn newest_finished(&self) -> u64 {
        self.newest_finished
    }

    pub(super) fn is_in_place(&self) -> bool {
        self.step == Step::InPlace
    }

    /// True if the next append must try to finish the rotation.
    pub(super) fn is_half_done(&self) -> bool {
        self.step == Step::Renamed
    }

    pub(super) fn is_mid_line(&self) -> bool {
        matches!(self.step, Step::MidLine { .. })
    }

    /// Records that the open file has its rotated name.
    pub(super) fn rename(&mut self) {
        self.next_number += 1;
        self.step = Step::Renamed;
    }

    /// Records that another file is open under the path.
    pub(super) fn finish(&mut self) {
        self.step = Step::InPlace;
        self.newest_finished = self.next_number - 1;
    }

    /// Records that the open file ends within a line.
    pub(super) fn begin_line(&mut self) {
        let renamed = matches!(self.step, Step::Renamed | Step::MidLine { renamed: true });
        self.step = Step::MidLine { renamed };
    }

    /// Records that the open file ends with a whole line again.
    pub(super) fn end_line(&mut self) {
        if let Step::MidLine { renamed } = self.step {
            self.step = if renamed { Step::Renamed } else { Step::InPlace };
        }
    }

    /// Continues after the number of a file that is there already.
    pub(super) fn number_after(&mut self, newest: u64) {
        self.next_number = self.next_number.max(newest.saturating_add(1));
    }
}

//! What the system says about the server's process.

use std::fs;

/// A process, by its number.
pub(crate) struct Process(pub(crate) u32);

impl Process {
    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.unwrap().trim().parse().unwrap()
    }

    /// Memory in use, KiB: everything resident, the allocator's own included.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory in use since [`Process::forget_peak`], KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Begins to measure the peak anew.
    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").unwrap();
    }

    /// Processor time used so far, in hundredths of a second.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let field = |number: usize| -> u64 {
            let text = after_name.split_whitespace().nth(number - 3).unwrap();
            text.parse().unwrap()
        };
        field(14) + field(15)
    }
}

/// Processor time that the whole machine has used so far, in hundredths of a second.
pub(crate) fn machine_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let all = stat.lines().next().unwrap().split_whitespace().skip(1);
    let ticks: Vec<u64> = all.map(|field| field.parse().unwrap()).collect();
    // Neither idle nor waiting for a disk (fields 4 and 5); guests count as users already.
    ticks[..8].iter().sum::<u64>() - ticks[3] - ticks[4]
}

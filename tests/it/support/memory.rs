//! What stands in the memory of a process: what its core image would hold.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

use memchr::memmem::Finder;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A place where one of the needles was found.
#[derive(Debug)]
pub(crate) struct Find {
    /// The line of `/proc/PID/maps` that names the region.
    #[expect(
        dead_code,
        reason = "it is printed where a search should have found nothing"
    )]
    pub(crate) region: String,
    /// What stands around it, as text.
    #[expect(
        dead_code,
        reason = "it is printed where a search should have found nothing"
    )]
    pub(crate) around: String,
}

impl Find {
    fn at(region: &str, bytes: &[u8], place: usize) -> Self {
        let around = place.saturating_sub(48)..(place + 64).min(bytes.len());
        Self {
            region: region.to_owned(),
            around: bytes[around].escape_ascii().to_string(),
        }
    }
}

/// A search of all readable memory of a process for some bytes.
pub(crate) struct MemorySearch {
    maps: String,
    memory: File,
}

impl MemorySearch {
    /// Of the process with that id, which must be this one's child (or this process root).
    ///
    /// # Errors
    /// Where the system does not let this process look.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        Ok(Self { maps, memory })
    }

    /// Where any of the needles stands, and how many bytes were looked at.
    pub(crate) fn find(&self, needles: &[Vec<u8>]) -> (Vec<Find>, u64) {
        let finders: Vec<Finder<'_>> = needles.iter().map(Finder::new).collect();
        let (mut found, mut seen) = (Vec::new(), 0);
        let overlap = needles.iter().map(Vec::len).max().unwrap_or(1) - 1;
        for line in self.maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, mode) = (fields.next().unwrap(), fields.next().unwrap());
            // The kernel's own pages cannot be read this way.
            if !mode.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let start = u64::from_str_radix(start, 16).unwrap();
            let end = u64::from_str_radix(end, 16).unwrap();
            let mut at = start;
            let mut chunk = vec![0; CHUNK_BYTES];
            while at < end {
                let wanted = usize::try_from(end - at).unwrap().min(CHUNK_BYTES);
                // A region may be gone, or end early, meanwhile.
                let Ok(count @ 1..) = self.memory.read_at(&mut chunk[..wanted], at) else {
                    break;
                };
                seen += u64::try_from(count).unwrap();
                let places = finders
                    .iter()
                    .flat_map(|finder| finder.find_iter(&chunk[..count]));
                found.extend(places.map(|place| Find::at(line, &chunk[..count], place)));
                let step = if count == wanted && wanted > overlap && at + (count as u64) < end {
                    count - overlap
                } else {
                    count
                };
                at += u64::try_from(step).unwrap();
            }
        }
        (found, seen)
    }
}

//! How fast this machine reads memory: the ceiling that decoding works against.

use std::hint::black_box;
use std::time::Instant;

use super::Cpu;

/// Larger than any last-level cache that a host of ours has, so that every pass comes from memory.
const BUFFER_BYTES: usize = 512 << 20;
/// What one task reads.
const PIECE: usize = 256 << 10;
const PASSES: usize = 5;

/// Reads a buffer of half a gigabyte with all threads, five times over; returns the best pass in GB/s (10⁹ bytes).
///
/// The best and not the mean, because whatever else the machine does can only make a pass slower.
pub fn read_bandwidth(cpu: &Cpu) -> f64 {
    // Not zeros: those the system would map to one and the same page.
    let buffer = vec![1; BUFFER_BYTES];
    let pass = || {
        let start = Instant::now();
        read_all(cpu, &buffer);
        BUFFER_BYTES as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
}

/// Reads all bytes with all threads, and does no more with them than it must.
pub fn read_all(cpu: &Cpu, bytes: &[u8]) {
    cpu.pool.run(bytes.len().div_ceil(PIECE), &|piece| {
        let bytes = &bytes[piece * PIECE..bytes.len().min((piece + 1) * PIECE)];
        // Many independent chains, so that the arithmetic never holds up the reads.
        let mut parities = [0_u8; 256];
        for bytes in bytes.as_chunks::<256>().0 {
            for (parity, byte) in parities.iter_mut().zip(bytes) {
                *parity ^= byte;
            }
        }
        black_box(parities);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_one_of_a_real_memory() {
        let bandwidth = read_bandwidth(&Cpu::new(2));
        assert!((0.1..10_000.0).contains(&bandwidth), "{bandwidth} GB/s");
    }
}

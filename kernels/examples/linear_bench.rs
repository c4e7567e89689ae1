//! The speed of the matrix products, beside the memory bandwidth of this machine.
//!
//! `cargo run --release -p sanctum-kernels --example linear_bench -- [--threads N] [--isa NAME] [--bits 4|8|16] [--rows N] [--megabytes N]
//! [--exact] [ROWSxCOLS …]`, where `--megabytes 0` measures one matrix repeatedly, from the caches if it fits there.
//!
//! Calls iterate over weights that are larger than all caches, so that each reads its matrix from memory as a model's
//! decode does. Between two calls a plain loop reads as many bytes. Both are reported as their fastest tenth: on a shared
//! machine the slower calls measure other processes. GB/s counts the weights' bytes once a call; the percentage is of
//! the plain loop's.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sanctum_kernels::cpu::{
    Affine, AffineParts, Cpu, Dense, Float, Isa, Matrix, Precision, project, read_all,
    read_bandwidth,
};

/// The products of the Qwen3.5 0.8B and 4B shapes: rows, columns.
const SHAPES: [(usize, usize); 6] = [
    (6144, 1024),
    (3584, 1024),
    (1024, 3584),
    (9216, 2560),
    (2560, 9216),
    (248_320, 1024),
];
/// How much weights a figure is measured over unless told otherwise: more than the last-level cache.
const MEGABYTES: usize = 192;
/// The largest matrix that can be measured.
const LARGEST: usize = 512 << 20;
/// How long one figure is measured.
const PATIENCE: Duration = Duration::from_millis(1000);

struct Args {
    threads: usize,
    isas: Vec<Isa>,
    bits: u8,
    rows: Vec<usize>,
    megabytes: usize,
    precision: Precision,
    shapes: Vec<(usize, usize)>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(args) => {
            run(&args);
            ExitCode::SUCCESS
        }
        Err(complaint) => {
            eprintln!("linear_bench: {complaint}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        isas: Isa::ALL.into_iter().filter(|isa| isa.available()).collect(),
        bits: 4,
        rows: vec![1, 4, 16, 128],
        megabytes: MEGABYTES,
        precision: Precision::Fast,
        shapes: SHAPES.to_vec(),
    };
    let (mut rows, mut shapes) = (vec![], vec![]);
    while let Some(word) = words.next() {
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--threads" => args.threads = number(&value()?)?,
            "--isa" => {
                let name = value()?;
                args.isas.retain(|isa| isa.to_string().starts_with(&name));
            }
            "--bits" => args.bits = number(&value()?)? as u8,
            "--megabytes" => args.megabytes = number(&value()?)?,
            "--exact" => args.precision = Precision::Exact,
            "--rows" => rows.push(number(&value()?)?),
            shape => {
                let (rows, cols) = shape
                    .split_once('x')
                    .ok_or(format!("{shape:?} is neither an option nor ROWSxCOLS"))?;
                shapes.push((number(rows)?, number(cols)?));
            }
        }
    }
    if !rows.is_empty() {
        args.rows = rows;
    }
    if !shapes.is_empty() {
        args.shapes = shapes;
    }
    Ok(args)
}

fn run(args: &Args) {
    let bytes = noise(1 << 20);
    let weights = args.megabytes << 20;
    let bytes: Vec<u8> = bytes
        .iter()
        .copied()
        .cycle()
        .take(weights + LARGEST)
        .collect();
    let ceiling = read_bandwidth(&Cpu::new(args.threads));
    println!(
        "{} threads; a plain loop reads {ceiling:.1} GB/s",
        args.threads
    );
    for &isa in &args.isas {
        let cpu = Cpu::with_isa(args.threads, isa);
        println!("\n{isa}, {} bits, {:?}", args.bits, args.precision);
        print!("{:>16}", "rows x cols");
        for n in &args.rows {
            print!(" | {:^26}", format!("n = {n}: GB/s, GMAC/s"));
        }
        println!();
        for &(rows, cols) in &args.shapes {
            print!("{:>16}", format!("{rows} x {cols}"));
            for &n in &args.rows {
                let Some(matrices) = matrices(&bytes, weights, (rows, cols), args.bits) else {
                    println!(" | no such matrix");
                    break;
                };
                let (gb, ceiling, gmac) = measure(&cpu, args.precision, &matrices, &bytes, n);
                let share = gb / ceiling * 100.0;
                print!(" | {gb:6.2} ({share:3.0}%) {gmac:8.1}    ");
            }
            println!();
        }
    }
    let again = read_bandwidth(&Cpu::new(args.threads));
    println!("\nand the plain loop once more: {again:.1} GB/s");
}

/// Different matrices of one shape, together larger than the caches.
fn matrices(
    bytes: &[u8],
    together: usize,
    (rows, cols): (usize, usize),
    bits: u8,
) -> Option<Vec<Matrix<'_>>> {
    let (packed, scales) = sizes(rows, cols, bits);
    let each = packed + 2 * scales;
    let count = together.div_ceil(each).max(1);
    let pieces = bytes.chunks_exact(each).take(count);
    pieces
        .map(|bytes| matrix(bytes, rows, cols, bits))
        .collect()
}

/// Bytes of weights and bytes of scales.
fn sizes(rows: usize, cols: usize, bits: u8) -> (usize, usize) {
    let scales = if bits < 16 { rows * cols / 64 * 2 } else { 0 };
    (rows * cols * usize::from(bits) / 8, scales)
}

fn matrix(bytes: &[u8], rows: usize, cols: usize, bits: u8) -> Option<Matrix<'_>> {
    let (packed, scales) = sizes(rows, cols, bits);
    let (packed, rest) = bytes.split_at(packed);
    let (scales, biases) = rest.split_at(scales);
    if bits == 16 {
        let dense = Dense::new(rows, cols, packed, Float::Bf16);
        return dense.ok().map(Matrix::from);
    }
    let parts = AffineParts {
        bits,
        group: 64,
        packed,
        scales,
        biases,
        float: Float::Bf16,
    };
    Affine::new(rows, cols, parts).ok().map(Matrix::from)
}

/// GB/s of weights, the same of the plain loop, and billions of multiply-adds a second.
fn measure(
    cpu: &Cpu,
    precision: Precision,
    matrices: &[Matrix<'_>],
    bytes: &[u8],
    n: usize,
) -> (f64, f64, f64) {
    let (rows, cols) = (matrices[0].rows(), matrices[0].cols());
    let size = matrices[0].bytes();
    let x: Vec<f32> = (0..n * cols).map(|i| (i % 29) as f32 - 14.0).collect();
    let mut y = vec![0.0; n * rows];
    let (mut ours, mut plain) = (vec![], vec![]);
    let begin = Instant::now();
    for (round, &matrix) in (1..).zip(matrices.iter().cycle()) {
        let start = Instant::now();
        project(cpu, precision, &x, cols, &mut [(matrix, &mut y)]);
        ours.push(start.elapsed().as_secs_f64());
        // Starts in the middle of the buffer, to avoid reading a matrix that was just used or is next.
        let at = (bytes.len() / 2 + round * size) % (bytes.len() - size);
        let start = Instant::now();
        read_all(cpu, &bytes[at..][..size]);
        plain.push(start.elapsed().as_secs_f64());
        if begin.elapsed() > PATIENCE {
            break;
        }
    }
    let fast = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 10]
    };
    let (ours, plain) = (fast(&mut ours), fast(&mut plain));
    let gb = size as f64 / 1e9;
    let gmac = (n * rows * cols) as f64 / ours / 1e9;
    (gb / ours, gb / plain, gmac)
}

/// Bytes of which every pair, read as a bf16, is a small finite number.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len)
        .map(|i| if i % 2 == 0 { next() } else { next() & 0xbf })
        .collect()
}

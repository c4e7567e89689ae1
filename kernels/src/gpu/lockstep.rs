//! The kernels' texts as plain C++, so that they can be held against their specifications where there is no GPU.
//!
//! `prelude/lockstep.h` has 32 lanes walk through a text in lockstep. A program is made of a kernel and all the template
//! arguments that its calls name, compiled by the system's C++ compiler (`CXX`, otherwise `c++`), and run once for all
//! calls. Without a compiler the tests are skipped; with `SANCTUM_TESTS_WHOLE=1` they fail.
//!
//! On a machine with an NVIDIA GPU the same tests run there: `SANCTUM_NVCC=nvcc cargo test -p sanctum-kernels gpu`.

mod attention;
mod delta_step;
mod experts;
mod operand;
mod placed;
mod pointwise;
mod products;
mod recurrent;
mod tensor_attention;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Dialect, GpuKernel, Launch};
use operand::{FENCE, Number, Operand};

/// A template argument.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Argument {
    Int(usize),
    Type(Number),
}

/// What a program is compiled for: template arguments and types of operands.
type Variant<'a> = (&'a [(&'static str, Argument)], Vec<Number>);

/// One launch of a kernel.
#[derive(Clone, Debug)]
struct Call {
    template: Vec<(&'static str, Argument)>,
    launch: Launch,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
}

impl Call {
    /// What the program must be compiled for: template arguments and types of operands.
    fn variant(&self) -> Variant<'_> {
        (&self.template, self.operands().map(|o| o.number).collect())
    }

    fn operands(&self) -> impl Iterator<Item = &Operand> {
        self.inputs.iter().chain(&self.outputs)
    }
}

/// Where texts are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    /// The processor, lanes in lockstep.
    Lockstep,
    /// The machine's NVIDIA GPU.
    Cuda,
}

/// Set to CUDA's compiler, it has the tests run on the GPU.
const NVCC: &str = "SANCTUM_NVCC";

impl Machine {
    fn here() -> Self {
        match env::var_os(NVCC) {
            Some(_) => Self::Cuda,
            None => Self::Lockstep,
        }
    }

    fn compiler(self) -> String {
        match self {
            Self::Lockstep => env::var("CXX").unwrap_or_else(|_| "c++".to_owned()),
            Self::Cuda => env::var(NVCC).unwrap_or_else(|_| "nvcc".to_owned()),
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Lockstep => &[
                "-std=c++17",
                "-O1",
                "-ffp-contract=off",
                "-U_FORTIFY_SOURCE",
            ],
            Self::Cuda => &["-std=c++17", "-O2", "-arch=native"],
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::Lockstep => Dialect::Lockstep,
            Self::Cuda => Dialect::Cuda,
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Lockstep => "cc",
            Self::Cuda => "cu",
        }
    }
}

/// The outputs of each call; none if there is no C++ compiler.
///
/// # Panics
/// If the text does not compile, if its lanes part ways, if it writes anything but its outputs, or if the result depends
/// on the order in which lanes run.
fn run(kernel: &GpuKernel, calls: &[Call]) -> Option<Vec<Vec<Operand>>> {
    let machine = Machine::here();
    let compiler = machine.compiler();
    if machine == Machine::Lockstep && Command::new(&compiler).arg("--version").output().is_err() {
        let whole = env::var_os("SANCTUM_TESTS_WHOLE").is_some_and(|value| value == "1");
        assert!(!whole, "this test needs a C++ compiler ({compiler})");
        eprintln!("skipped: {} needs a C++ compiler ({compiler})", kernel.name);
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let mut variants = Vec::new();
    for call in calls {
        if !variants.contains(&call.variant()) {
            variants.push(call.variant());
        }
    }
    let text = at("kernel").with_extension(machine.extension());
    fs::write(&text, program(kernel, &variants, machine)).expect("a file");
    let mut compile = Command::new(compiler);
    compile
        .args(machine.options())
        .arg(text)
        .arg("-o")
        .arg(at("kernel"));
    succeed(&mut compile);

    let mut requests = Vec::new();
    requests.extend((2 * calls.len() as u32).to_le_bytes());
    for call in calls {
        let variant = variants.iter().position(|v| *v == call.variant());
        request(&mut requests, call, variant.unwrap_or_default(), false);
        request(&mut requests, call, variant.unwrap_or_default(), true);
    }
    fs::write(at("calls"), requests).expect("a file");
    succeed(Command::new(at("kernel")).args([at("calls"), at("results")]));
    Some(results(kernel, calls, &at("results")))
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("a program that can be run");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
}

/// The program's text.
fn program(kernel: &GpuKernel, variants: &[Variant<'_>], machine: Machine) -> String {
    let header = kernel.header(machine.dialect());
    let (header, entry) = match machine {
        Machine::Lockstep => (header, "static void"),
        // As MLX has it compiled, where every function is the device's.
        Machine::Cuda => (
            format!("#define inline __device__ inline\n{header}\n#undef inline\n"),
            "__global__ static void",
        ),
    };
    let before = match machine {
        Machine::Lockstep => "#define BOTH\n",
        Machine::Cuda => include_str!("lockstep/cuda.h"),
    };
    let mut text = [before, &header, include_str!("lockstep/operands.h")].concat();
    let _ = writeln!(text, "constexpr int FENCE = {FENCE};");
    let _ = writeln!(text, "constexpr int SHARED = {};", kernel.shared);
    let names: Vec<_> = kernel.inputs.iter().chain(&kernel.outputs).collect();
    for (index, (template, numbers)) in variants.iter().enumerate() {
        assert_eq!(names.len(), numbers.len(), "operands of {}", kernel.name);
        let _ = writeln!(text, "{entry} variant{index}(Operands operands) {{");
        for (name, argument) in *template {
            let _ = match argument {
                Argument::Int(value) => writeln!(text, "constexpr int {name} = {value};"),
                Argument::Type(number) => writeln!(text, "using {name} = {};", number.spelling()),
            };
        }
        for (i, (name, number)) in names.iter().zip(numbers).enumerate() {
            let pointer = match i < kernel.inputs.len() {
                true => format!("const {}*", number.spelling()),
                false => format!("{}*", number.spelling()),
            };
            let _ = writeln!(text, "{pointer} {name} = ({pointer})operands[{i}].data;");
            if kernel.body.contains(&format!("{name}_shape")) {
                let _ = writeln!(text, "auto {name}_shape = operands[{i}].shape;");
            }
        }
        let _ = writeln!(text, "{}\n}}", kernel.body);
    }
    text += "static void (*const VARIANTS[])(Operands) = {";
    (0..variants.len()).for_each(|index| {
        let _ = write!(text, "variant{index}, ");
    });
    let launch = match machine {
        Machine::Lockstep => include_str!("lockstep/lockstep.cc"),
        Machine::Cuda => include_str!("lockstep/cuda.cc"),
    };
    text + "};\n" + launch + include_str!("lockstep/main.cc")
}

/// One call as the program reads it.
fn request(bytes: &mut Vec<u8>, call: &Call, variant: usize, down: bool) {
    let Launch { grid, group } = call.launch;
    let groups = [0, 1, 2].map(|axis| {
        assert_eq!(grid[axis] % group[axis], 0, "{:?}", call.launch);
        grid[axis] / group[axis]
    });
    let head = [[variant, down.into()].as_slice(), &groups, &group].concat();
    let mut number = |value: usize| bytes.extend((value as u32).to_le_bytes());
    head.into_iter().for_each(&mut number);
    number(call.operands().count());
    for operand in call.operands() {
        let mut number = |value: usize| bytes.extend((value as u32).to_le_bytes());
        number(operand.bytes.len());
        number(operand.shape.len());
        operand.shape.iter().copied().for_each(&mut number);
        bytes.extend(&operand.bytes);
    }
}

/// The outputs of each call, of which each was run twice.
fn results(kernel: &GpuKernel, calls: &[Call], file: &Path) -> Vec<Vec<Operand>> {
    let all = fs::read(file).expect("results");
    let mut rest = all.as_slice();
    let mut next = |like: &Operand| {
        let (bytes, left) = rest.split_at(like.bytes.len());
        rest = left;
        like.with(bytes)
    };
    let mut one = |call: &Call| {
        let [up, down] = [(); 2].map(|()| {
            let read: Vec<_> = call.operands().map(&mut next).collect();
            for (before, after) in call.operands().zip(&read) {
                let untouched = before.fences() == after.fences();
                assert!(untouched, "{} writes beside an operand", kernel.name);
            }
            let (inputs, outputs) = read.split_at(call.inputs.len());
            assert!(inputs == call.inputs, "{} writes an input", kernel.name);
            outputs.to_vec()
        });
        assert!(up == down, "{} depends on the lanes' order", kernel.name);
        up
    };
    calls.iter().map(&mut one).collect()
}

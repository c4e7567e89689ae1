//! Kernels of our own, compiled by MLX when they first run: as Metal or as CUDA, from one text.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt::Write as _;

use mlx_rs::{Array, Device, Dtype, Stream};
use sanctum_kernels::gpu::{GpuKernel, Launch};

use super::super::ops::{dim, must};
use super::source_file::SourceFile;

/// A kernel that MLX has taken.
pub(crate) struct CustomKernel {
    name: String,
    handle: Handle,
    /// The header and the body that the text given to MLX includes; they must exist whenever MLX compiles a variant.
    _included: Option<[SourceFile; 2]>,
}

enum Handle {
    Metal(LoadedKernel<mlx_sys::mlx_fast_metal_kernel, mlx_sys::mlx_fast_metal_kernel_config>),
    Cuda(LoadedKernel<mlx_sys::mlx_fast_cuda_kernel, mlx_sys::mlx_fast_cuda_kernel_config>),
}

/// The make of GPU that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gpu {
    /// Apple's.
    Metal,
    /// NVIDIA's.
    Cuda,
}

/// What a kernel is called with besides its inputs.
pub(crate) struct KernelCall<'a> {
    /// Shape and type of each output.
    pub outputs: &'a [(Vec<i32>, Dtype)],
    /// Threads.
    pub launch: Launch,
    /// What the text knows at compile time.
    pub template: &'a [(&'static CStr, TemplateArgument)],
}

/// A template argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TemplateArgument {
    /// A whole number, not negative.
    Int(i32),
    /// A type of numbers.
    Type(Dtype),
}

impl<'a> KernelCall<'a> {
    /// A call.
    pub(crate) fn new(
        outputs: &'a [(Vec<i32>, Dtype)],
        launch: Launch,
        template: &'a [(&'static CStr, TemplateArgument)],
    ) -> Self {
        Self {
            outputs,
            launch,
            template,
        }
    }
}

impl Gpu {
    /// The GPU that this MLX was built for and that is there.
    pub(crate) fn here() -> Option<Self> {
        // The first use of mlx-rs makes errors come back: mlx-c's own way is to end the process.
        Device::try_default().ok()?;
        let (mut metal, mut cuda) = (false, false);
        // SAFETY: both only write a bool to a live local.
        let known = unsafe {
            mlx_sys::mlx_metal_is_available(&mut metal) == 0
                && mlx_sys::mlx_cuda_is_available(&mut cuda) == 0
        };
        match (known, metal, cuda) {
            (true, true, _) => Some(Self::Metal),
            (true, false, true) => Some(Self::Cuda),
            _ => None,
        }
    }
}

impl CustomKernel {
    /// Takes a kernel's text, and what stands before it. Nothing is compiled yet.
    pub(crate) fn new(gpu: Gpu, kernel: &GpuKernel, header: &str) -> Self {
        let text = |text: &str| CString::new(text).expect("kernel texts hold no zero byte");
        let names = |names: &[String]| {
            StringVector::new(&names.iter().map(|n| text(n)).collect::<Vec<_>>())
        };
        let included = match gpu {
            Gpu::Metal => None,
            Gpu::Cuda => included(header, &kernel.body),
        };
        let (header, body) = match &included {
            Some([head, body]) => (head.include(), with_shapes(kernel, body)),
            None => (compact(header), compact(&kernel.body)),
        };
        let (label, header, body) = (text(&kernel.name), text(&header), text(&body));
        let (inputs, outputs) = (names(&kernel.inputs), names(&kernel.outputs));
        // SAFETY: every pointer is to a string that ends with a zero byte and outlives the call, which copies it; the
        // name vectors are live.
        let handle = unsafe {
            match gpu {
                Gpu::Metal => Handle::Metal(METAL.loaded(mlx_sys::mlx_fast_metal_kernel_new(
                    label.as_ptr(),
                    inputs.0,
                    outputs.0,
                    body.as_ptr(),
                    header.as_ptr(),
                    true,
                    false,
                ))),
                Gpu::Cuda => Handle::Cuda(CUDA.loaded(mlx_sys::mlx_fast_cuda_kernel_new(
                    label.as_ptr(),
                    inputs.0,
                    outputs.0,
                    body.as_ptr(),
                    header.as_ptr(),
                    true,
                    dim(kernel.shared),
                ))),
            }
        };
        let name = kernel.name.clone();
        let taken = Self {
            name,
            handle,
            _included: included,
        };
        assert!(!taken.is_null(), "MLX does not take {}", taken.name);
        taken
    }

    fn is_null(&self) -> bool {
        match &self.handle {
            Handle::Metal(loaded) => loaded.kernel.ctx.is_null(),
            Handle::Cuda(loaded) => loaded.kernel.ctx.is_null(),
        }
    }

    /// Puts a call into MLX's graph; gives its outputs. The inputs are made contiguous first.
    ///
    /// A text must write nothing but its outputs: those of `sanctum_kernels::gpu` are held to that by their tests.
    pub(crate) fn apply(&self, inputs: &[&Array], call: &KernelCall<'_>) -> Vec<Array> {
        let results = STREAM.with(|stream| match &self.handle {
            Handle::Metal(loaded) => loaded.apply(inputs, call, stream),
            Handle::Cuda(loaded) => loaded.apply(inputs, call, stream),
        });
        results.unwrap_or_else(|| panic!("MLX refuses a call of the kernel {}", self.name))
    }
}

// SAFETY: what MLX keeps of a kernel and of its calls are texts, names and numbers; they belong to no thread, and only one
// uses them at a time.
unsafe impl Send for CustomKernel {}

thread_local! {
    /// The GPU's stream of this thread.
    static STREAM: Stream = must(Stream::try_default_on_device(&Device::gpu()));
}

/// Header and body as files for NVRTC to include; none if the system does not allow it.
///
/// MLX assembles, stores and hashes the whole text of a kernel at every call, on the thread that the device waits for.
/// With includes that text is a few hundred bytes.
fn included(header: &str, body: &str) -> Option<[SourceFile; 2]> {
    let file = |name, text| match SourceFile::new(name, text) {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::debug!(%error, "kernel sources are passed to MLX in full");
            None
        }
    };
    Some([file(c"header.cuh", header)?, file(c"body.cuh", body)?])
}

/// The include of a body, after the names by which MLX decides that the body needs the shape of an input.
fn with_shapes(kernel: &GpuKernel, body: &SourceFile) -> String {
    let mut text = String::from("//");
    for input in &kernel.inputs {
        let shape = format!("{input}_shape");
        if kernel.body.contains(&shape) {
            let _ = write!(text, " {shape}");
        }
    }
    text + "\n" + &body.include()
}

/// A text without comments and indentation, for the same reason.
fn compact(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let code = line.split_once("//").map_or(line, |(code, _)| code);
        code.trim()
    });
    let mut compact = String::with_capacity(text.len());
    for line in lines.filter(|line| !line.is_empty()) {
        compact += line;
        compact.push('\n');
    }
    compact
}

/// mlx-c's functions for kernels `K` and the descriptions `C` of their calls, which are the same for both makes.
struct Api<K, C> {
    free_kernel: unsafe extern "C" fn(K),
    new: unsafe extern "C" fn() -> C,
    free: unsafe extern "C" fn(C),
    output: unsafe extern "C" fn(C, *const c_int, usize, mlx_sys::mlx_dtype) -> c_int,
    grid: unsafe extern "C" fn(C, c_int, c_int, c_int) -> c_int,
    group: unsafe extern "C" fn(C, c_int, c_int, c_int) -> c_int,
    int: unsafe extern "C" fn(C, *const c_char, c_int) -> c_int,
    dtype: unsafe extern "C" fn(C, *const c_char, mlx_sys::mlx_dtype) -> c_int,
    apply: unsafe extern "C" fn(
        *mut mlx_sys::mlx_vector_array,
        K,
        mlx_sys::mlx_vector_array,
        C,
        mlx_sys::mlx_stream,
    ) -> c_int,
}

static METAL: Api<mlx_sys::mlx_fast_metal_kernel, mlx_sys::mlx_fast_metal_kernel_config> = Api {
    free_kernel: mlx_sys::mlx_fast_metal_kernel_free,
    new: mlx_sys::mlx_fast_metal_kernel_config_new,
    free: mlx_sys::mlx_fast_metal_kernel_config_free,
    output: mlx_sys::mlx_fast_metal_kernel_config_add_output_arg,
    grid: mlx_sys::mlx_fast_metal_kernel_config_set_grid,
    group: mlx_sys::mlx_fast_metal_kernel_config_set_thread_group,
    int: mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_int,
    dtype: mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_dtype,
    apply: mlx_sys::mlx_fast_metal_kernel_apply,
};

static CUDA: Api<mlx_sys::mlx_fast_cuda_kernel, mlx_sys::mlx_fast_cuda_kernel_config> = Api {
    free_kernel: mlx_sys::mlx_fast_cuda_kernel_free,
    new: mlx_sys::mlx_fast_cuda_kernel_config_new,
    free: mlx_sys::mlx_fast_cuda_kernel_config_free,
    output: mlx_sys::mlx_fast_cuda_kernel_config_add_output_arg,
    grid: mlx_sys::mlx_fast_cuda_kernel_config_set_grid,
    group: mlx_sys::mlx_fast_cuda_kernel_config_set_thread_group,
    int: mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_int,
    dtype: mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_dtype,
    apply: mlx_sys::mlx_fast_cuda_kernel_apply,
};

impl<K: Copy, C: Copy> Api<K, C> {
    /// Takes over a kernel, which may be null.
    fn loaded(&'static self, kernel: K) -> LoadedKernel<K, C> {
        LoadedKernel {
            api: self,
            kernel,
            known: RefCell::default(),
        }
    }

    /// MLX's description of a call; none if it refuses a part.
    fn describe(&self, call: &KernelCall<'_>) -> Option<C> {
        let [gx, gy, gz] = call.launch.grid.map(dim);
        let [tx, ty, tz] = call.launch.group.map(dim);
        // SAFETY: shapes outlive the calls, which copy them, and names end with a zero byte; the description is freed
        // here if it is not returned.
        unsafe {
            let config = (self.new)();
            let mut taken = (self.grid)(config, gx, gy, gz) == 0;
            taken &= (self.group)(config, tx, ty, tz) == 0;
            for (shape, dtype) in call.outputs {
                taken &= (self.output)(config, shape.as_ptr(), shape.len(), *dtype as _) == 0;
            }
            for (name, argument) in call.template {
                taken &= match argument {
                    TemplateArgument::Int(value) => (self.int)(config, name.as_ptr(), *value) == 0,
                    TemplateArgument::Type(dtype) => {
                        (self.dtype)(config, name.as_ptr(), *dtype as _) == 0
                    }
                };
            }
            if !taken {
                (self.free)(config);
            }
            taken.then_some(config)
        }
    }
}

/// A kernel of one make with the calls that were described to MLX before: a model repeats them for each layer and pass.
struct LoadedKernel<K: Copy + 'static, C: Copy + 'static> {
    api: &'static Api<K, C>,
    kernel: K,
    /// The oldest first.
    known: RefCell<Vec<KnownCall<C>>>,
}

/// A call as it was described to MLX.
struct KnownCall<C> {
    outputs: Vec<(Vec<i32>, Dtype)>,
    launch: Launch,
    template: Vec<(&'static CStr, TemplateArgument)>,
    config: C,
}

/// Descriptions that a kernel keeps. Batches of many sizes have as many.
const MOST_KNOWN: usize = 32;

impl<K: Copy, C: Copy> LoadedKernel<K, C> {
    /// MLX's description of a call, from before if there is one; none if MLX refuses it.
    fn config(&self, call: &KernelCall<'_>) -> Option<C> {
        let mut known = self.known.borrow_mut();
        let same = |k: &&KnownCall<C>| {
            k.outputs == call.outputs && k.launch == call.launch && k.template == call.template
        };
        if let Some(known) = known.iter().find(same) {
            return Some(known.config);
        }
        let config = self.api.describe(call)?;
        if known.len() == MOST_KNOWN {
            let oldest = known.remove(0);
            // SAFETY: made by `describe`, freed here only.
            unsafe { (self.api.free)(oldest.config) };
        }
        known.push(KnownCall {
            outputs: call.outputs.to_vec(),
            launch: call.launch,
            template: call.template.to_vec(),
            config,
        });
        Some(config)
    }

    /// The outputs of a call; none if MLX refuses it.
    fn apply(
        &self,
        inputs: &[&Array],
        call: &KernelCall<'_>,
        stream: &Stream,
    ) -> Option<Vec<Array>> {
        let config = self.config(call)?;
        let pointers: Vec<_> = inputs.iter().map(|array| array.as_ptr()).collect();
        // SAFETY: everything made here is freed here, once; inputs outlive the calls, which copy them, and `config` lives
        // until another call is described; `outputs` holds as many arrays as `call.outputs` once the call has succeeded,
        // and each array taken from it is a handle of its own, which `Array` frees.
        unsafe {
            let arrays = mlx_sys::mlx_vector_array_new_data(pointers.as_ptr(), pointers.len());
            let mut outputs = mlx_sys::mlx_vector_array_new();
            let status =
                (self.api.apply)(&mut outputs, self.kernel, arrays, config, stream.as_ptr());
            let result = (status == 0).then(|| {
                let one = |index| {
                    let mut array = mlx_sys::mlx_array_new();
                    mlx_sys::mlx_vector_array_get(&mut array, outputs, index);
                    Array::from_ptr(array)
                };
                (0..call.outputs.len()).map(one).collect()
            });
            mlx_sys::mlx_vector_array_free(outputs);
            mlx_sys::mlx_vector_array_free(arrays);
            result
        }
    }
}

impl<K: Copy, C: Copy> Drop for LoadedKernel<K, C> {
    fn drop(&mut self) {
        // SAFETY: each description was made by `describe` and the kernel by MLX for this value; they are freed here only.
        unsafe {
            for known in self.known.get_mut().drain(..) {
                (self.api.free)(known.config);
            }
            (self.api.free_kernel)(self.kernel);
        }
    }
}

/// Strings as mlx-c wants them.
struct StringVector(mlx_sys::mlx_vector_string);

impl StringVector {
    fn new(names: &[CString]) -> Self {
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the strings end with a zero byte and are copied before the call returns.
        Self(unsafe { mlx_sys::mlx_vector_string_new_data(pointers.as_mut_ptr(), pointers.len()) })
    }
}

impl Drop for StringVector {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed here only.
        unsafe {
            mlx_sys::mlx_vector_string_free(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_text_has_neither_comments_nor_indentation() {
        let text = "// Head.\n#define A 1  // one\n\nfor (;;) {\n    f(a / b);\n}\n";
        assert_eq!(compact(text), "#define A 1\nfor (;;) {\nf(a / b);\n}\n");
    }
}

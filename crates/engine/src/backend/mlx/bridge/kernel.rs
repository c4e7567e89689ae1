//! Kernels of our own, compiled by MLX when they first run: as Metal or as CUDA, from one text.

use std::ffi::{CStr, CString, c_char, c_int};

use mlx_rs::{Array, Device, Dtype, Stream};
use sanctum_kernels::gpu::{Kernel, Launch};

use super::super::ops::{dim, must};

/// A kernel that MLX has taken.
pub(crate) struct CustomKernel {
    name: String,
    handle: Handle,
}

enum Handle {
    Metal(mlx_sys::mlx_fast_metal_kernel),
    Cuda(mlx_sys::mlx_fast_cuda_kernel),
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
pub(crate) struct Call<'a> {
    /// Shape and type of each output.
    pub outputs: &'a [(Vec<i32>, Dtype)],
    /// Threads.
    pub launch: Launch,
    /// What the text knows at compile time.
    pub template: &'a [(&'static CStr, Argument)],
}

/// A template argument.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    /// A whole number, not negative.
    Int(i32),
    /// A type of numbers.
    Type(Dtype),
}

impl<'a> Call<'a> {
    /// A call.
    pub(crate) fn new(
        outputs: &'a [(Vec<i32>, Dtype)],
        launch: Launch,
        template: &'a [(&'static CStr, Argument)],
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
    pub(crate) fn new(gpu: Gpu, kernel: &Kernel, header: &str) -> Self {
        let text = |text: &str| CString::new(text).expect("kernel texts hold no zero byte");
        let names =
            |names: &[String]| Names::new(&names.iter().map(|n| text(n)).collect::<Vec<_>>());
        let (label, header, body) = (text(&kernel.name), text(header), text(&kernel.body));
        let (inputs, outputs) = (names(&kernel.inputs), names(&kernel.outputs));
        // SAFETY: every pointer is to a string that ends with a zero byte and outlives the call, which copies it; the
        // name vectors are live.
        let handle = unsafe {
            match gpu {
                Gpu::Metal => Handle::Metal(mlx_sys::mlx_fast_metal_kernel_new(
                    label.as_ptr(),
                    inputs.0,
                    outputs.0,
                    body.as_ptr(),
                    header.as_ptr(),
                    true,
                    false,
                )),
                Gpu::Cuda => Handle::Cuda(mlx_sys::mlx_fast_cuda_kernel_new(
                    label.as_ptr(),
                    inputs.0,
                    outputs.0,
                    body.as_ptr(),
                    header.as_ptr(),
                    true,
                    0,
                )),
            }
        };
        let name = kernel.name.clone();
        let taken = Self { name, handle };
        assert!(!taken.is_null(), "MLX does not take {}", taken.name);
        taken
    }

    fn is_null(&self) -> bool {
        match &self.handle {
            Handle::Metal(kernel) => kernel.ctx.is_null(),
            Handle::Cuda(kernel) => kernel.ctx.is_null(),
        }
    }

    /// Puts a call into MLX's graph; gives its outputs. The inputs are made contiguous first.
    ///
    /// A text must write nothing but its outputs: those of `sanctum_kernels::gpu` are held to that by their tests.
    pub(crate) fn apply(&self, inputs: &[&Array], call: &Call<'_>) -> Vec<Array> {
        let stream = must(Stream::try_default_on_device(&must(Device::try_default())));
        let results = match &self.handle {
            Handle::Metal(kernel) => METAL.apply(*kernel, inputs, call, &stream),
            Handle::Cuda(kernel) => CUDA.apply(*kernel, inputs, call, &stream),
        };
        results.unwrap_or_else(|| panic!("MLX refuses a call of the kernel {}", self.name))
    }
}

// SAFETY: what MLX keeps of a kernel are texts and names; it belongs to no thread, and only one uses it at a time.
unsafe impl Send for CustomKernel {}

impl Drop for CustomKernel {
    fn drop(&mut self) {
        // SAFETY: the handle was made by `new` and is freed here only.
        unsafe {
            match &self.handle {
                Handle::Metal(kernel) => mlx_sys::mlx_fast_metal_kernel_free(*kernel),
                Handle::Cuda(kernel) => mlx_sys::mlx_fast_cuda_kernel_free(*kernel),
            }
        }
    }
}

/// mlx-c's functions for kernels `K` and the descriptions `C` of their calls, which are the same for both makes.
struct Api<K, C> {
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

const METAL: Api<mlx_sys::mlx_fast_metal_kernel, mlx_sys::mlx_fast_metal_kernel_config> = Api {
    new: mlx_sys::mlx_fast_metal_kernel_config_new,
    free: mlx_sys::mlx_fast_metal_kernel_config_free,
    output: mlx_sys::mlx_fast_metal_kernel_config_add_output_arg,
    grid: mlx_sys::mlx_fast_metal_kernel_config_set_grid,
    group: mlx_sys::mlx_fast_metal_kernel_config_set_thread_group,
    int: mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_int,
    dtype: mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_dtype,
    apply: mlx_sys::mlx_fast_metal_kernel_apply,
};

const CUDA: Api<mlx_sys::mlx_fast_cuda_kernel, mlx_sys::mlx_fast_cuda_kernel_config> = Api {
    new: mlx_sys::mlx_fast_cuda_kernel_config_new,
    free: mlx_sys::mlx_fast_cuda_kernel_config_free,
    output: mlx_sys::mlx_fast_cuda_kernel_config_add_output_arg,
    grid: mlx_sys::mlx_fast_cuda_kernel_config_set_grid,
    group: mlx_sys::mlx_fast_cuda_kernel_config_set_thread_group,
    int: mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_int,
    dtype: mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_dtype,
    apply: mlx_sys::mlx_fast_cuda_kernel_apply,
};

impl<K, C: Copy> Api<K, C> {
    /// The outputs of a call; none if MLX refuses it.
    fn apply(
        &self,
        kernel: K,
        inputs: &[&Array],
        call: &Call<'_>,
        stream: &Stream,
    ) -> Option<Vec<Array>> {
        let pointers: Vec<_> = inputs.iter().map(|array| array.as_ptr()).collect();
        let [gx, gy, gz] = call.launch.grid.map(dim);
        let [tx, ty, tz] = call.launch.group.map(dim);
        // SAFETY: everything made here is freed here, once; inputs and shapes outlive the calls, which copy them, and
        // names end with a zero byte; `outputs` holds as many arrays as `call.outputs` once the call has succeeded,
        // and each array taken from it is a handle of its own, which `Array` frees.
        unsafe {
            let config = (self.new)();
            let mut taken = (self.grid)(config, gx, gy, gz) == 0;
            taken &= (self.group)(config, tx, ty, tz) == 0;
            for (shape, dtype) in call.outputs {
                taken &= (self.output)(config, shape.as_ptr(), shape.len(), *dtype as _) == 0;
            }
            for (name, argument) in call.template {
                taken &= match argument {
                    Argument::Int(value) => (self.int)(config, name.as_ptr(), *value) == 0,
                    Argument::Type(dtype) => (self.dtype)(config, name.as_ptr(), *dtype as _) == 0,
                };
            }
            let arrays = mlx_sys::mlx_vector_array_new_data(pointers.as_ptr(), pointers.len());
            let mut outputs = mlx_sys::mlx_vector_array_new();
            taken =
                taken && (self.apply)(&mut outputs, kernel, arrays, config, stream.as_ptr()) == 0;
            let result = taken.then(|| {
                let one = |index| {
                    let mut array = mlx_sys::mlx_array_new();
                    mlx_sys::mlx_vector_array_get(&mut array, outputs, index);
                    Array::from_ptr(array)
                };
                (0..call.outputs.len()).map(one).collect()
            });
            mlx_sys::mlx_vector_array_free(outputs);
            mlx_sys::mlx_vector_array_free(arrays);
            (self.free)(config);
            result
        }
    }
}

/// Strings as mlx-c wants them.
struct Names(mlx_sys::mlx_vector_string);

impl Names {
    fn new(names: &[CString]) -> Self {
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the strings end with a zero byte and are copied before the call returns.
        Self(unsafe { mlx_sys::mlx_vector_string_new_data(pointers.as_mut_ptr(), pointers.len()) })
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed here only.
        unsafe {
            mlx_sys::mlx_vector_string_free(self.0);
        }
    }
}

//! How models are loaded and run.

use std::num::{NonZeroU64, NonZeroUsize};

use sanctum_config::fleet::{BackendSetting, KvCacheFormat, Memory, Server};
use sanctum_engine::backend::{KvMode, MemoryLimits, Precision};
use sanctum_engine::launch::{BackendChoice, LaunchOptions};

use super::error::SettingsError;
use crate::args::{BackendArg, MemoryArgs, ServeArgs};

/// The most sequences at once, and the most waiting requests: more is a typing error.
const MOST_SLOTS: usize = 4096;
const LONGEST_QUEUE: usize = 1 << 20;

/// Decides for a server of so many models.
///
/// # Errors
/// If a number is larger than any machine needs.
pub(crate) fn resolve(
    args: &ServeArgs,
    server: Option<&Server>,
    models: usize,
) -> Result<LaunchOptions, SettingsError> {
    let options = options(args, server, models);
    bounded("--max-slots", options.max_slots.get(), MOST_SLOTS)?;
    bounded("--queue", options.queue, LONGEST_QUEUE)?;
    Ok(options)
}

fn bounded(what: &'static str, value: usize, most: usize) -> Result<(), SettingsError> {
    match value <= most {
        true => Ok(()),
        false => Err(SettingsError::TooMany { what, value, most }),
    }
}

fn options(args: &ServeArgs, server: Option<&Server>, models: usize) -> LaunchOptions {
    let usual = LaunchOptions::default();
    let limits = server
        .map(|server| server.limits.clone())
        .unwrap_or_default();
    let exact = args.exact || server.is_some_and(|server| server.exact);
    LaunchOptions {
        backend: match (args.backend, server.map(|server| server.backend)) {
            (Some(BackendArg::Cpu), _) | (None, Some(BackendSetting::Cpu)) => BackendChoice::Cpu,
            (Some(BackendArg::Mlx), _) | (None, Some(BackendSetting::Mlx)) => BackendChoice::Mlx,
            (Some(BackendArg::Auto), _) | (None, Some(BackendSetting::Auto) | None) => {
                BackendChoice::Auto
            }
        },
        memory: memory(&args.memory, server.map(|server| &server.memory)),
        models: NonZeroUsize::new(models).unwrap_or(usual.models),
        beside: usual.beside,
        precision: if exact {
            Precision::Exact
        } else {
            usual.precision
        },
        kv_cache: args.kv_cache.unwrap_or_else(|| kv_cache(server)),
        threads: args
            .threads
            .or(server.and_then(|server| server.threads))
            .or(usual.threads),
        max_context: args
            .max_context
            .or(limits.max_context)
            .or(usual.max_context),
        max_slots: args
            .max_slots
            .or(limits.max_slots)
            .unwrap_or(usual.max_slots),
        queue: args.queue.or(limits.queue).unwrap_or(usual.queue),
        prefill_chunk: args
            .prefill_chunk
            .or(limits.prefill_chunk)
            .unwrap_or(usual.prefill_chunk),
        prefix: usual.prefix,
    }
}

fn kv_cache(server: Option<&Server>) -> KvMode {
    match server.map(|server| server.kv_cache) {
        None => KvMode::default(),
        Some(KvCacheFormat::Plain) => KvMode::Plain,
        Some(KvCacheFormat::V8) => KvMode::V8,
        Some(KvCacheFormat::V4) => KvMode::V4,
    }
}

fn memory(args: &MemoryArgs, file: Option<&Memory>) -> MemoryLimits {
    let bytes = |said: Option<NonZeroU64>, file: Option<u64>| {
        let mib = said.map(NonZeroU64::get).or(file.filter(|&mib| mib > 0));
        mib.map(|mib| mib.saturating_mul(1 << 20))
    };
    MemoryLimits {
        cache: bytes(
            args.cache_limit_mb,
            file.and_then(|file| file.cache_limit_mb),
        ),
        total: bytes(args.memory_limit_mb, file.and_then(|file| file.limit_mb)),
        wired: bytes(
            args.wired_limit_mb,
            file.and_then(|file| file.wired_limit_mb),
        ),
    }
}

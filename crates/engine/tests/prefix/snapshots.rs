//! Snapshots of the CPU backend without a scheduler.

use sanctum_engine::backend::{Backend, Batch, CpuBackend, KvMode, Precision, SlotId};
use sanctum_engine::graph::Model;

use crate::small::{Arithmetic, TestDevice, model, words};

type Slots = <CpuBackend as Backend>::Slots;

/// The bits of the logits of the last of these tokens, which continue a slot.
fn feed(model: &Model<CpuBackend>, slots: &mut Slots, slot: usize, tokens: &[u32]) -> Vec<u32> {
    let mut batch = Batch::default();
    batch.push(SlotId(slot), tokens, true);
    let logits = model.forward(&batch, slots, || {}).unwrap();
    let logits = model.backend().read(logits);
    logits.into_iter().map(f32::to_bits).collect()
}

fn arithmetics() -> impl Iterator<Item = Arithmetic> {
    let modes = [KvMode::Plain, KvMode::V8, KvMode::V4].into_iter();
    modes.flat_map(|kv_cache| {
        [Precision::Exact, Precision::Fast].map(|precision| Arithmetic {
            device: TestDevice::Cpu,
            precision,
            kv_cache,
            threads: 2,
            experts: false,
        })
    })
}

#[test]
fn snapshot_continues_like_its_sequence_whatever_both_do_later() {
    for arithmetic in arithmetics() {
        let model = model(arithmetic);
        let backend = model.backend();
        for len in [1, 63, 64, 65, 130] {
            let (prompt, rest, other) = (words(len, 1), words(70, 2), words(90, 3));
            let mut slots = model.slots(3);
            feed(&model, &mut slots, 0, &prompt);
            let snapshot = backend.snapshot(&mut slots, SlotId(0));
            assert_eq!(backend.pages(&slots, &snapshot).len(), len.div_ceil(64));
            let expected = feed(&model, &mut slots, 0, &rest);
            for slot in [1, 2] {
                backend.restore(&mut slots, SlotId(slot), &snapshot);
            }
            feed(&model, &mut slots, 1, &other);
            let found = feed(&model, &mut slots, 2, &rest);
            assert_eq!(found, expected, "{arithmetic:?}, {len} tokens");
            backend.clear(&mut slots, SlotId(0));
            backend.clear(&mut slots, SlotId(2));
            backend.restore(&mut slots, SlotId(2), &snapshot);
            backend.release(&mut slots, snapshot);
            assert_eq!(feed(&model, &mut slots, 2, &rest), expected);
        }
    }
}

#[test]
fn imported_snapshot_equals_the_exported_one() {
    for arithmetic in arithmetics() {
        let model = model(arithmetic);
        let backend = model.backend();
        let mut slots = model.slots(2);
        feed(&model, &mut slots, 0, &words(70, 1));
        let parent = backend.snapshot(&mut slots, SlotId(0));
        feed(&model, &mut slots, 0, &words(80, 2));
        let snapshot = backend.snapshot(&mut slots, SlotId(0));
        let expected = feed(&model, &mut slots, 0, &[5, 6, 7]);

        let alone = backend.export(&mut slots, &snapshot, 0);
        let behind = backend.export(&mut slots, &snapshot, 70);
        assert!(behind.len() < alone.len());
        for (bytes, parent) in [(&alone, None), (&behind, Some(&parent))] {
            let imported = backend.import(&mut slots, parent, bytes).unwrap();
            assert_eq!(backend.export(&mut slots, &imported, 0), alone);
            backend.restore(&mut slots, SlotId(1), &imported);
            let found = feed(&model, &mut slots, 1, &[5, 6, 7]);
            assert_eq!(found, expected, "{arithmetic:?}");
            backend.clear(&mut slots, SlotId(1));
        }
        assert!(backend.import(&mut slots, None, &behind).is_err());
        let short = &alone[..alone.len() - 1];
        assert!(backend.import(&mut slots, None, short).is_err());
        let long = [&alone[..], &[0]].concat();
        let error = backend.import(&mut slots, None, &long).unwrap_err();
        assert_eq!(error, "1 bytes too many");
    }
}

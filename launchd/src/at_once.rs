//! Work for several hosts at once: one that does not answer delays no other.

use std::sync::mpsc::channel;
use std::thread;

/// Does `work` for each item on a thread of its own, and passes each result to `on_result` as soon as it is known. Returns the
/// results in the order of the items.
///
/// # Errors
/// The first error of `on_result`, which is not called again. The rest of the work is waited for all the same.
pub(crate) fn at_once<I: Send, R: Send, E>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> R + Sync,
    mut on_result: impl FnMut(&R) -> Result<(), E>,
) -> Result<Vec<R>, E> {
    let work = &work;
    let (sender, results) = channel();
    thread::scope(|scope| {
        let mut all = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let sender = sender.clone();
            // The receiver is gone after an error of `on_result`.
            scope.spawn(move || sender.send((index, work(item))).is_ok());
            all.push(None);
        }
        drop(sender);
        for (index, result) in results {
            on_result(&result)?;
            all[index] = Some(result);
        }
        Ok(all.into_iter().flatten().collect())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender};

    use super::*;

    #[test]
    fn item_that_hangs_delays_no_other_result() {
        let (release, released): (Sender<()>, Receiver<()>) = channel();
        let released = Mutex::new(released);
        let work = |name: &'static str| {
            if name == "hangs" {
                released.lock().unwrap().recv().unwrap();
            }
            name
        };
        let mut shown = Vec::new();
        let all = at_once(["hangs", "answers"], work, |name| {
            shown.push(*name);
            // It hangs until the other result was shown.
            if *name == "answers" {
                release.send(()).unwrap();
            }
            Ok::<(), ()>(())
        });
        assert_eq!(shown, ["answers", "hangs"]);
        assert_eq!(all, Ok(vec!["hangs", "answers"]));
    }

    #[test]
    fn error_of_the_receiver_ends_the_output() {
        let mut calls = 0;
        let failed = at_once(
            [1, 2, 3],
            |number| number,
            |_| {
                calls += 1;
                Err("closed")
            },
        );
        assert_eq!((failed, calls), (Err("closed"), 1));
    }
}

use std::sync::mpsc;

use super::*;

fn client(number: u8) -> Owner {
    Owner::of(ClientKey::Loopback, ([127, 0, 0, number], 1).into())
}

/// Runs the queue as one thread would, and returns the numbers in their order.
fn order(queue: &mut FairQueue) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some((number, _)) = queue.take(true) {
        numbers.push(number);
        queue.finish(number);
    }
    numbers
}

fn enter(queue: &mut FairQueue, owner: u8, bytes: usize) -> u64 {
    queue.enter(client(owner), bytes, Box::new(|| ()))
}

#[test]
fn small_request_of_a_quiet_client_precedes_twelve_large_ones() {
    let mut queue = FairQueue::default();
    let large: Vec<u64> = (0..12).map(|_| enter(&mut queue, 1, 2 << 20)).collect();
    let first = queue.take(true).unwrap().0;
    assert_eq!(first, large[0]);
    let small = enter(&mut queue, 2, 200);
    // One request of a client at a time, and the other client is next.
    assert_eq!(queue.take(true).unwrap().0, small);
    assert!(queue.take(true).is_none());
    queue.working.clear();
    assert_eq!(order(&mut queue), large[1..]);
    assert!(queue.asked.is_empty());
}

#[test]
fn two_busy_clients_take_turns() {
    let mut queue = FairQueue::default();
    let a: Vec<u64> = (0..3).map(|_| enter(&mut queue, 1, 100 << 10)).collect();
    let b: Vec<u64> = (0..3).map(|_| enter(&mut queue, 2, 100 << 10)).collect();
    assert_eq!(order(&mut queue), [a[0], b[0], a[1], b[1], a[2], b[2]]);
    // What follows a large one waits for as many bytes of small ones as that had, not for all of them.
    let _large = enter(&mut queue, 1, 10 << 10);
    let next = enter(&mut queue, 1, 1 << 10);
    let small: Vec<u64> = (0..30).map(|_| enter(&mut queue, 2, 1 << 10)).collect();
    let place = order(&mut queue).iter().position(|&number| number == next);
    assert!(
        (10..=12).contains(&place.unwrap()),
        "{place:?} of {}",
        small.len()
    );
}

#[test]
fn one_thread_is_kept_for_small_requests() {
    let mut queue = FairQueue::default();
    for owner in 1..=6 {
        enter(&mut queue, owner, 1 << 20);
    }
    let taken = (0..6).filter(|_| queue.take(true).is_some()).count();
    assert_eq!(taken, LARGE_AT_ONCE);
    let small = enter(&mut queue, 9, 100);
    assert_eq!(queue.take(false).unwrap().0, small);
}

#[test]
fn large_request_is_served_although_new_clients_keep_sending_smaller_ones() {
    let mut queue = FairQueue::default();
    let hostile = |queue: &mut FairQueue, port: u16| {
        let owner = Owner::of(ClientKey::Loopback, ([127, 0, 0, 1], port).into());
        queue.enter(owner, 2 << 20, Box::new(|| ()))
    };
    for port in 2..=13 {
        hostile(&mut queue, port);
    }
    // On one connection that is kept, so that the second is charged after the first.
    let large = [0, 1].map(|_| enter(&mut queue, 9, 3 << 20));
    let mut served = Vec::new();
    for port in 14..100 {
        let (number, _) = queue.take(true).unwrap();
        served.push(number);
        queue.finish(number);
        hostile(&mut queue, port);
    }
    let place = large.map(|large| served.iter().position(|&number| number == large));
    assert_eq!(place[0], Some(12));
    // Thirteen clients have 3 MiB each before it.
    assert!(place[1].is_some_and(|place| place < 50), "{place:?}");
}

#[test]
fn charge_of_a_request_that_leaves_the_queue_is_refunded() {
    let mut queue = FairQueue::default();
    enter(&mut queue, 1, 1 << 10);
    assert!(queue.take(true).is_some());
    let gone: Vec<u64> = (0..3).map(|_| enter(&mut queue, 2, 4 << 20)).collect();
    let kept = enter(&mut queue, 2, 1 << 10);
    for number in gone {
        assert!(queue.leave(number).is_some());
        assert!(queue.leave(number).is_none());
    }
    assert_eq!(queue.asked[&client(2)], 1 << 10);
    let other: Vec<u64> = (0..2).map(|_| enter(&mut queue, 3, 1 << 10)).collect();
    queue.working.clear();
    assert_eq!(order(&mut queue), [kept, other[0], other[1]]);
}

/// Work that reports that it has begun, and continues until its client has disconnected.
fn until_left(begun: mpsc::Sender<()>, ended: mpsc::Sender<()>) -> impl FnOnce(&Ticket) + Send {
    move |ticket| {
        begun.send(()).unwrap();
        while ticket.is_wanted() {
            std::thread::yield_now();
        }
        ended.send(()).unwrap();
    }
}

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn work_ends_when_its_client_disconnects() {
    let preparing = Arc::new(PreparationQueue::start().unwrap());
    let (begun, began) = mpsc::channel();
    let (ended, end) = mpsc::channel();
    let work = until_left(begun, ended);
    let theirs = preparing.clone();
    let asking = tokio::spawn(async move { theirs.run(client(1), 5, work).await });
    began.recv_timeout(SOON).unwrap();
    let reading = preparing.read();
    assert_eq!(
        (reading.requests, reading.waiting, reading.bytes),
        (1, 0, 5)
    );
    asking.abort();
    end.recv_timeout(SOON).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn further_requests_of_a_client_wait_and_those_of_others_do_not() {
    let preparing = Arc::new(PreparationQueue::start().unwrap());
    let (begun, began) = mpsc::channel();
    let (ended, _end) = mpsc::channel();
    let theirs = preparing.clone();
    let work = until_left(begun, ended);
    let first = tokio::spawn(async move { theirs.run(client(1), 5, work).await });
    began.recv_timeout(SOON).unwrap();
    let theirs = preparing.clone();
    let second = tokio::spawn(async move { theirs.run(client(1), 7, |_| 2).await });
    assert_eq!(preparing.run(client(2), 3, |_| 3).await, Ok(3));
    while preparing.read().waiting == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert_eq!(second.await.unwrap(), Ok(2));
    // The first one's work ends when it notices that its client has left.
    while preparing.read().requests != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_is_an_error_and_the_thread_continues() {
    let preparing = PreparationQueue::start().unwrap();
    for _ in 0..2 * THREADS {
        let result = preparing.run(client(1), 1, |_| -> u8 { panic!("on purpose") });
        assert_eq!(result.await, Err(Panicked));
    }
    assert_eq!(preparing.run(client(1), 1, |_| 1).await, Ok(1));
}

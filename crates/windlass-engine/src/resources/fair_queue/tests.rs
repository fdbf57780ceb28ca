//! Tests of the fair queue.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Precedence::{New, UnderWay};
use super::*;

/// Acquires a permit, which must be free.
fn acquire(queue: &FairQueue, project: ProjectId) -> Permit {
    queue.acquire(project, New).now_or_never().expect("a permit is free")
}

/// Begins to wait for a permit; none may be free.
fn wait(queue: &FairQueue, project: ProjectId) -> BoxFuture<'static, Permit> {
    wait_as(New, queue, project)
}

fn wait_as(precedence: Precedence, queue: &FairQueue, project: ProjectId) -> BoxFuture<'static, Permit> {
    let queue = queue.clone();
    let mut waiting = async move { queue.acquire(project, precedence).await }.boxed();
    assert!((&mut waiting).now_or_never().is_none(), "no permit is free");
    waiting
}

/// The permits granted to waiting requests, with the requests' indexes.
fn served(requests: &mut [Option<BoxFuture<'static, Permit>>]) -> Vec<(usize, Permit)> {
    let mut served = Vec::new();
    for (index, request) in requests.iter_mut().enumerate() {
        if let Some(permit) = request.as_mut().and_then(FutureExt::now_or_never) {
            *request = None;
            served.push((index, permit));
        }
    }
    served
}

#[test]
fn a_project_with_many_waiting_requests_does_not_delay_another() {
    let (queue, [many, few]) = (FairQueue::new(2, 2), [ProjectId::generate(), ProjectId::generate()]);
    let held = [acquire(&queue, many), acquire(&queue, many)];
    let mut requests: Vec<_> = [many; 20].into_iter().chain([few; 2]).map(|it| Some(wait(&queue, it))).collect();
    let [first, second] = held;
    drop(first);
    let next = served(&mut requests);
    assert_eq!(next.iter().map(|it| it.0).collect::<Vec<_>>(), [20]);
    drop(second);
    let after = served(&mut requests);
    assert_eq!(after.iter().map(|it| it.0).collect::<Vec<_>>(), [0], "each project holds one");
    drop(after);
    let last = served(&mut requests);
    assert_eq!(last.iter().map(|it| it.0).collect::<Vec<_>>(), [1]);
    drop(next);
    assert_eq!(served(&mut requests)[0].0, 21);
}

#[test]
fn one_project_cannot_hold_all_permits() {
    let (queue, [greedy, other]) = (FairQueue::new(3, 2), [ProjectId::generate(), ProjectId::generate()]);
    let held = [acquire(&queue, greedy), acquire(&queue, greedy)];
    let waiting = wait(&queue, greedy);
    let others = acquire(&queue, other);
    drop(held);
    assert!(waiting.now_or_never().is_some());
    drop(others);
}

#[test]
fn cancelled_requests_pass_their_permits_on() {
    let (queue, project) = (FairQueue::new(1, 1), ProjectId::generate());
    let held = acquire(&queue, project);
    let [cancelled, granted, waiting] = std::array::from_fn(|_| wait(&queue, project));
    drop(cancelled);
    drop(held);
    drop(granted);
    drop(waiting.now_or_never().expect("a permit is free"));
    drop(acquire(&queue, project));
    assert!(queue.lock().next(1).is_none());
    assert!(queue.lock().projects.is_empty());
}

/// A queue of one permit, which a third project holds, and whose permits were held for a second on average.
fn busy() -> (FairQueue, Permit) {
    let queue = FairQueue::new(1, 1);
    queue.lock().held_for.record(Duration::from_secs(1));
    let held = acquire(&queue, ProjectId::generate());
    (queue, held)
}

fn expected(queue: &FairQueue, project: ProjectId, precedence: Precedence) -> u64 {
    queue.expected_wait(project, precedence).as_secs()
}

#[test]
fn what_is_under_way_is_served_before_new_requests_of_its_project_only() {
    let (queue, [one, other]) = (FairQueue::new(1, 1), [ProjectId::generate(), ProjectId::generate()]);
    let held = acquire(&queue, one);
    let order = [(New, one), (UnderWay, one), (UnderWay, one), (New, other)];
    let mut requests: Vec<_> = order.into_iter().map(|(it, project)| Some(wait_as(it, &queue, project))).collect();
    drop(held);
    let mut turns = Vec::new();
    while let Some((index, _permit)) = served(&mut requests).pop() {
        turns.push(index);
    }
    assert_eq!(turns, [3, 1, 2, 0]);
}

#[test]
fn the_expected_wait_grows_with_the_requests_of_the_own_project() {
    let ((queue, _held), [many, few]) = (busy(), [ProjectId::generate(), ProjectId::generate()]);
    assert_eq!(expected(&queue, many, New), 1, "the permit that is held has to be released");
    let waiting: Vec<_> = (0..10).map(|_| wait(&queue, many)).collect();
    assert_eq!(expected(&queue, many, New), 11);
    assert_eq!(expected(&queue, few, New), 2, "one request of each project goes before its second");
    assert_eq!(expected(&queue, many, UnderWay), 1, "it goes before the new ones");
    drop(waiting);
    assert_eq!(expected(&queue, many, New), 1, "requests whose client has disconnected do not count");
}

#[test]
fn nobody_waits_while_a_permit_is_free_however_long_they_were_held() {
    let (queue, [one, other]) = (FairQueue::new(2, 1), [ProjectId::generate(), ProjectId::generate()]);
    queue.lock().held_for.record(Duration::from_hours(1));
    assert_eq!(queue.expected_wait(one, New), Duration::ZERO);
    let held = acquire(&queue, one);
    assert_eq!(queue.expected_wait(other, New), Duration::ZERO);
    assert!(queue.expected_wait(one, New) > Duration::from_mins(59), "the project has its share already");
    drop(held);
    assert_eq!(queue.expected_wait(one, New), Duration::ZERO);
}

#[test]
fn permits_that_are_shared_shorten_the_wait() {
    let queue = FairQueue::new(4, 4);
    queue.lock().held_for.record(Duration::from_secs(4));
    let project = ProjectId::generate();
    let _held: Vec<_> = (0..4).map(|_| acquire(&queue, project)).collect();
    let _waiting: Vec<_> = (0..3).map(|_| wait(&queue, project)).collect();
    assert_eq!(expected(&queue, project, New), 4);
}

#[test]
fn if_nothing_is_granted_any_more_the_expected_wait_is_how_long_the_first_has_waited() {
    let (queue, [stuck, other]) = (FairQueue::new(1, 1), [ProjectId::generate(), ProjectId::generate()]);
    let _held = acquire(&queue, stuck);
    let _waiting = wait(&queue, stuck);
    assert_eq!(expected(&queue, stuck, New), 0, "nothing is known yet");
    let an_hour = Duration::from_hours(1);
    let earlier = |it: &mut Waiting| it.since = Instant::now().checked_sub(an_hour).unwrap();
    queue.lock().projects.get_mut(&stuck).unwrap().waiting[New as usize].iter_mut().for_each(earlier);
    assert!(queue.expected_wait(stuck, New) >= an_hour);
    assert_eq!(expected(&queue, stuck, UnderWay), 0, "it would go before that request");
    assert_eq!(expected(&queue, other, New), 0, "another project has its own turn");
}

#[test]
fn projects_that_come_and_go_do_not_pass_one_that_keeps_waiting() {
    let (queue, patient) = (FairQueue::new(1, 1), ProjectId::generate());
    let first = acquire(&queue, ProjectId::generate());
    let mut requests: Vec<_> = [patient; 3].into_iter().map(|it| Some(wait(&queue, it))).collect();
    let mut turns = Vec::new();
    drop(first);
    let mut held = served(&mut requests);
    while let Some((index, permit)) = held.pop() {
        turns.push(index);
        if requests.len() < 9 {
            requests.push(Some(wait(&queue, ProjectId::generate())));
        }
        drop(permit);
        held = served(&mut requests);
    }
    assert_eq!(turns, [0, 3, 1, 4, 5, 2, 6, 7, 8], "it waits only for those that came before its latest turn");
}

#[test]
fn while_no_permit_is_granted_new_requests_are_expected_to_wait_as_long() {
    let (queue, [stuck, other]) = (FairQueue::new(2, 1), [ProjectId::generate(), ProjectId::generate()]);
    let an_hour = Duration::from_hours(1);
    let held = acquire(&queue, stuck);
    queue.lock().granted_at = Instant::now().checked_sub(an_hour).unwrap();
    assert_eq!(expected(&queue, other, New), 0, "a permit is free");
    let _others = acquire(&queue, other);
    queue.lock().granted_at = Instant::now().checked_sub(an_hour).unwrap();
    assert!(queue.expected_wait(ProjectId::generate(), New) >= an_hour);
    drop(held);
    assert_eq!(expected(&queue, ProjectId::generate(), New), 0);
}

//! A future that is carried to its end although nobody waits for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

/// Runs within the task of whoever waits for it, which spares a hop between threads. Dropped before
/// its end, it goes on in a task of its own.
pub(crate) struct Carried<F: Future<Output: Send> + Send + 'static> {
    /// Taken out when it has ended or has panicked.
    future: Option<Pin<Box<TrackedFuture<F>>>>,
    runtime: Handle,
}

impl<F: Future<Output: Send> + Send + 'static> Carried<F> {
    /// `tasks` counts it for as long as it runs, wherever that is.
    pub(crate) fn new(future: F, tasks: &TaskTracker, runtime: &Handle) -> Self {
        Self {
            future: Some(Box::pin(tasks.track_future(future))),
            runtime: runtime.clone(),
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Carried<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // What panics while it is polled is not put back, and so not polled again.
        let mut future = self.future.take().expect("not polled after its end");
        let polled = future.as_mut().poll(context);
        if polled.is_pending() {
            self.future = Some(future);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Carried<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            drop(self.runtime.spawn(future));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_goes_on_and_is_counted_until_its_end() {
        let tasks = TaskTracker::new();
        tasks.close();
        let (go, wait) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let work = async move {
            let _ = wait.await;
            let _ = tell.send("done");
        };
        let mut carried = Box::pin(Carried::new(work, &tasks, &Handle::current()));
        assert!(futures::poll!(carried.as_mut()).is_pending());
        drop(carried);
        assert!(!tasks.is_empty(), "it is still counted");
        go.send(()).expect("it waits");
        assert_eq!(told.await, Ok("done"));
        tasks.wait().await;
    }

    #[tokio::test]
    async fn what_was_waited_for_leaves_no_task() {
        let tasks = TaskTracker::new();
        assert_eq!(
            Carried::new(async { 7 }, &tasks, &Handle::current()).await,
            7
        );
        assert!(tasks.is_empty());
    }
}

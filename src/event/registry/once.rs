//! A cache that keeps successes for ever and failures not at all, and loads each key once at a time.
//!
//! Callers that want a key which is being loaded wait for the load that runs and share its outcome, good or bad.
//! The number of entries is bounded by the number of things that exist, as failures aren't kept.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError, RwLock};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::RegistryError;

type Load<V> = Shared<BoxFuture<'static, Result<V, RegistryError>>>;

/// The cache.
pub(super) struct Once<K, V> {
    ready: RwLock<HashMap<K, V>>,
    loading: Mutex<HashMap<K, Load<V>>>,
}

impl<K, V> Default for Once<K, V> {
    fn default() -> Once<K, V> {
        Once { ready: RwLock::default(), loading: Mutex::default() }
    }
}

impl<K, V> std::fmt::Debug for Once<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.ready.read().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Once").field("entries", &entries).finish()
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Once<K, V> {
    /// The value, if it was loaded before.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.ready.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// The value; loaded by `load` unless it is there or being loaded.
    pub(super) async fn get_or_load(
        &self,
        key: &K,
        load: impl FnOnce() -> BoxFuture<'static, Result<V, RegistryError>>,
    ) -> Result<V, RegistryError> {
        if let Some(value) = self.get(key) {
            return Ok(value);
        }
        let running = {
            let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
            loading.entry(key.clone()).or_insert_with(|| load().shared()).clone()
        };
        let outcome = running.clone().await;
        if let Ok(value) = &outcome {
            let mut ready = self.ready.write().unwrap_or_else(PoisonError::into_inner);
            ready.entry(key.clone()).or_insert_with(|| value.clone());
        }
        // Only the load that ended is taken away: another may have begun since.
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if loading.get(key).is_some_and(|current| current.ptr_eq(&running)) {
            loading.remove(key);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Loads that run until the gate is opened, the first of them failing.
    struct Loads {
        gate: Arc<Semaphore>,
        calls: Arc<AtomicU32>,
        fails: u32,
    }

    impl Loads {
        fn failing(fails: u32) -> Loads {
            Loads { gate: Arc::new(Semaphore::new(0)), calls: Arc::default(), fails }
        }

        fn load(&self) -> BoxFuture<'static, Result<u32, RegistryError>> {
            let (gate, calls, fails) = (Arc::clone(&self.gate), Arc::clone(&self.calls), self.fails);
            async move {
                let _open = gate.acquire().await;
                match calls.fetch_add(1, Ordering::SeqCst) {
                    call if call < fails => Err(RegistryError::Unknown("it".to_owned())),
                    call => Ok(call),
                }
            }
            .boxed()
        }

        /// Fifty callers that all wait before the gate is opened.
        async fn fifty_at_once(&self, once: &Once<u32, u32>) -> Vec<Result<u32, RegistryError>> {
            let mut callers: Vec<_> =
                (0..50).map(|_| Box::pin(once.get_or_load(&7, || self.load()))).collect();
            for caller in &mut callers {
                assert!(futures_util::poll!(caller).is_pending());
            }
            self.gate.add_permits(1);
            futures_util::future::join_all(callers).await
        }
    }

    #[tokio::test]
    async fn callers_at_once_share_one_load() {
        let (once, loads) = (Once::default(), Loads::failing(0));
        assert!(loads.fifty_at_once(&once).await.iter().all(|outcome| *outcome == Ok(0)));
        assert_eq!(loads.calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_is_shared_by_those_who_wait_and_forgotten_after() {
        let (once, loads) = (Once::default(), Loads::failing(1));
        assert!(loads.fifty_at_once(&once).await.iter().all(Result::is_err));
        assert_eq!(loads.calls.load(Ordering::SeqCst), 1);
        assert_eq!(once.get_or_load(&7, || loads.load()).await, Ok(1));
        assert_eq!(once.get(&7), Some(1));
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_does_not_stop_the_others() {
        let (once, loads) = (Once::<u32, u32>::default(), Loads::failing(0));
        let mut gone = Box::pin(once.get_or_load(&7, || loads.load()));
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        loads.gate.add_permits(1);
        assert_eq!(once.get_or_load(&7, || loads.load()).await, Ok(0));
        assert_eq!(loads.calls.load(Ordering::SeqCst), 1);
    }
}

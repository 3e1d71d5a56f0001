//! The shares API: the registrar that finishes what is half done, and the door, opened where the configuration says so.

use super::StartError;
use super::records::Records;
use crate::config;
use crate::stack::Current;

#[cfg(feature = "store")]
pub use crate::shares::OpenShares;

#[cfg(feature = "store")]
mod built {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::{Current, OpenShares, Records, StartError, config};
    use crate::app::doors::failed;
    use crate::app::keeping::Task;
    use crate::enforcement::{Desk, Follows};
    use crate::shares::{Following, Registrar, SharesDoor, Where, serve_shares};
    use crate::telemetry::Telemetry;

    /// Binds the door, if there is one.
    pub fn open(config: &config::Gateway) -> Result<Option<OpenShares>, StartError> {
        config.shares.as_ref().map(|shares| OpenShares::open(&shares.at)).transpose().map_err(StartError::Shares)
    }

    /// Lives on the control thread.
    pub struct SharesApi {
        registrar: Option<Rc<Registrar>>,
        current: Current,
        telemetry: Telemetry,
        door: Option<(Where, Rc<SharesDoor>, Task)>,
        following: Option<Rc<Following>>,
        survey: Option<Task>,
        _tasks: Vec<Task>,
    }

    impl SharesApi {
        /// With the records that were opened at the start. What an earlier process left half done is finished, whether or not shares are served.
        pub fn new(records: &Records, desk: &Rc<Desk>, current: &Current, follows: Follows, telemetry: &Telemetry) -> Self {
            let metrics = telemetry.metrics();
            let registrar = records.store().map(|store| Registrar::new(store.clone(), Rc::clone(desk), Arc::clone(metrics)));
            let following = registrar.as_ref().map(|registrar| Following::new(Rc::clone(registrar), Arc::clone(current), Arc::clone(metrics)));
            let finishing = registrar.as_ref().map(|registrar| Task::start(Rc::clone(registrar).finish()));
            let follow = following.as_ref().map(|following| Task::start(Rc::clone(following).run(follows)));
            let telemetry = telemetry.clone();
            let _tasks = finishing.into_iter().chain(follow).collect();
            Self { registrar, current: Arc::clone(current), telemetry, door: None, following, survey: None, _tasks }
        }

        /// Binds the door where the configuration has it elsewhere; `None`: it stays as it is.
        pub fn plan(&self, config: &config::Gateway) -> Result<Option<Option<OpenShares>>, StartError> {
            let wanted = config.shares.as_ref().filter(|_| self.registrar.is_some());
            if self.door.as_ref().map(|(at, ..)| at) == wanted.map(|shares| &shares.at) {
                return Ok(None);
            }
            if wanted.is_none() { Ok(Some(None)) } else { open(config).map(Some) }
        }

        /// Serves what was bound, by the configuration's section.
        pub fn carry_out(&mut self, bound: Option<Option<OpenShares>>, config: &config::Gateway) {
            let shares = config.shares.clone().map(Arc::new);
            if let Some(following) = &self.following {
                following.configure(shares.clone());
            }
            let survey = |registrar: &Rc<Registrar>| Task::start(Rc::clone(registrar).survey(self.current.load_full(), shares.clone()));
            self.survey = self.registrar.as_ref().map(survey);
            let Some(open) = bound else {
                if let (Some((_, door, _)), Some(shares)) = (&self.door, shares) {
                    door.configure(shares);
                }
                return;
            };
            self.door = None;
            if let (Some(shares), Some(open), Some(registrar)) = (shares, open, &self.registrar) {
                let at = shares.at.clone();
                let door = SharesDoor::new(shares, Rc::clone(registrar), Arc::clone(&self.current), self.telemetry.clone());
                let served = Rc::clone(&door);
                let task = Task::start(async move { failed("shares", serve_shares(open, served).await) });
                self.door = Some((at, door, task));
            }
        }
    }
}

/// Without records there is nothing to serve: the configuration refuses the section.
#[cfg(not(feature = "store"))]
mod built {
    use std::rc::Rc;

    use super::{Current, OpenShares, Records, StartError, config};
    use crate::enforcement::{Desk, Follows};
    use crate::telemetry::Telemetry;

    pub const fn open(_: &config::Gateway) -> Result<Option<OpenShares>, StartError> {
        Ok(None)
    }

    pub struct SharesApi;

    impl SharesApi {
        pub fn new(_: &Records, _: &Rc<Desk>, _: &Current, _: Follows, _: &Telemetry) -> Self {
            Self
        }

        pub const fn plan(&self, _: &config::Gateway) -> Result<Option<Option<OpenShares>>, StartError> {
            Ok(None)
        }

        pub const fn carry_out(&mut self, _: Option<Option<OpenShares>>, _: &config::Gateway) {}
    }
}

/// A door that nobody opens.
#[cfg(not(feature = "store"))]
pub enum OpenShares {}

#[cfg(not(feature = "store"))]
impl OpenShares {
    pub const fn address(&self) -> Option<std::net::SocketAddr> {
        match *self {}
    }
}

pub use built::{SharesApi, open};

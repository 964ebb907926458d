use super::{Client, Route, Terms};
use crate::pool::{Explanation, Pool};

impl Pool {
    /// Says for every target why a request of this client with this route would, or would not, be given to it now.
    #[must_use]
    pub fn explain(&self, route: &Route, client: Option<&Client>) -> Explanation {
        self.explain_query(&Terms::from(client).query(route))
    }
}

//! The table of routes: what is served where, known to the router and to the OpenAPI document.

use std::sync::Arc;

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;

use crate::app::App;

/// A path and what is done there.
pub(crate) struct Place {
    pub(crate) path: &'static str,
    /// Read by the test that holds the OpenAPI document to it.
    pub(crate) methods: Vec<Method>,
    pub(crate) router: MethodRouter<Arc<App>>,
}

impl Place {
    /// A path where nothing is done yet.
    pub(crate) fn at(path: &'static str) -> Self {
        Self {
            path,
            methods: Vec::new(),
            router: MethodRouter::new(),
        }
    }

    pub(crate) fn get<H: Handler<T, Arc<App>>, T: 'static>(self, handler: H) -> Self {
        self.on(Method::GET, MethodFilter::GET, handler)
    }

    pub(crate) fn post<H: Handler<T, Arc<App>>, T: 'static>(self, handler: H) -> Self {
        self.on(Method::POST, MethodFilter::POST, handler)
    }

    pub(crate) fn put<H: Handler<T, Arc<App>>, T: 'static>(self, handler: H) -> Self {
        self.on(Method::PUT, MethodFilter::PUT, handler)
    }

    pub(crate) fn patch<H: Handler<T, Arc<App>>, T: 'static>(self, handler: H) -> Self {
        self.on(Method::PATCH, MethodFilter::PATCH, handler)
    }

    pub(crate) fn delete<H: Handler<T, Arc<App>>, T: 'static>(self, handler: H) -> Self {
        self.on(Method::DELETE, MethodFilter::DELETE, handler)
    }

    fn on<H: Handler<T, Arc<App>>, T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        handler: H,
    ) -> Self {
        self.methods.push(method);
        Self {
            router: self.router.on(filter, handler),
            ..self
        }
    }
}

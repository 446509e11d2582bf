//! A client of the Open Service Broker API, version 2.17.

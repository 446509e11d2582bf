//! kill -9 at the worst moments: after a restart the story completes, and the broker holds exactly
//! what it should.

mod commands;
mod runs;
mod services;

//! The language of Dispatch: ids, commands, events, envelopes, subjects, error codes.

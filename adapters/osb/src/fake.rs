//! A broker in this process, with scripted faults.

'use strict';

// Says hello. The exported function is called once for each run; it may be async.
module.exports = (context, payload) => {
    const name = payload.name ?? 'world';
    console.log(`greeting ${name}`); // what is printed is the run's log
    return { greeting: `Hello, ${name}!` };
};

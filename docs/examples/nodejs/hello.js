// Says hello.
//
//     dispatch create function nodejs hello-js hello.js \
//         --schema-in ../hello.in.json --schema-out ../hello.out.json
//     dispatch exec hello-js --wait --input '{"name": "Jon", "place": "Winterfell"}'

'use strict';

module.exports = function (context, payload) {
    const { name = 'Noone', place = 'Nowhere' } = payload || {};
    return { myField: `Hello, ${name} from ${place}` };
};

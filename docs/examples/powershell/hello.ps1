function handle($context, $payload) {
    $name = if ($payload.name) { $payload.name } else { 'Noone' }
    $place = if ($payload.place) { $payload.place } else { 'Nowhere' }
    @{ myField = "Hello, $name from $place" }
}

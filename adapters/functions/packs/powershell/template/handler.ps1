# Says hello. The function `handle` is called once for each run.
function handle($context, $payload) {
    $name = if ($payload.name) { $payload.name } else { "world" }
    Write-Host "greeting $name" # what is printed is the run's log
    return @{ greeting = "Hello, $name!" }
}

# The PowerShell worker: one function, one call at a time, over one private socket, as
# packs/python3/worker.py says. A handler is a function of two parameters, context and payload, in a
# script that is dot-sourced once: file.ps1::function.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$FUNCTION = '/tmp/function' # the engine says the same in every order
$BINDINGS = '/tmp/bindings' # what $SERVICE_BINDING_ROOT says

$utf8 = [System.Text.UTF8Encoding]::new($false)
[Console]::OutputEncoding = $utf8

# Moves the channel out of the way of code that closes small descriptors, and keeps it from children.
# .NET has no call for that, so the C library's are declared at run time; without them it stays at 3.
function Move-Channel {
    try {
        $assembly = [System.Reflection.Emit.AssemblyBuilder]::DefineDynamicAssembly(
            [System.Reflection.AssemblyName]::new('Channel'), [System.Reflection.Emit.AssemblyBuilderAccess]::Run)
        $type = $assembly.DefineDynamicModule('Channel').DefineType('Channel', [System.Reflection.TypeAttributes]'Public, Class')
        foreach ($name in 'dup3', 'close') {
            [Type[]] $takes = if ($name -eq 'dup3') { [int], [int], [int] } else { , [int] }
            $method = $type.DefinePInvokeMethod($name, 'libc',
                [System.Reflection.MethodAttributes]'Public, Static, PinvokeImpl',
                [System.Reflection.CallingConventions]::Standard, [int], $takes,
                [System.Runtime.InteropServices.CallingConvention]::Cdecl,
                [System.Runtime.InteropServices.CharSet]::Ansi)
            $method.SetImplementationFlags([System.Reflection.MethodImplAttributes]::PreserveSig)
        }
        $libc = $type.CreateType()
        if ($libc::dup3(3, 200, 0x80000) -ne 200) { return 3 } # O_CLOEXEC
    } catch {
        return 3
    }
    $null = $libc::close(3)
    200
}

$socket = [System.Net.Sockets.Socket]::new([System.Net.Sockets.SafeSocketHandle]::new([IntPtr](Move-Channel), $true))
$stream = [System.Net.Sockets.NetworkStream]::new($socket, $true)
$reader = [System.IO.StreamReader]::new($stream, $utf8, $false, 65536)
$handler = $null

function Send-Line([string] $text) {
    [Console]::Out.Flush()
    [Console]::Error.Flush()
    $bytes = $utf8.GetBytes($text + "`n")
    $stream.Write($bytes, 0, $bytes.Length)
    $stream.Flush()
}

function ConvertTo-Line($value) {
    ConvertTo-Json -InputObject $value -Depth 100 -Compress -EscapeHandling Default
}

function Write-Files([string] $folder, $files) {
    foreach ($file in $files) {
        $path = Join-Path $folder $file[0]
        $null = [System.IO.Directory]::CreateDirectory([System.IO.Path]::GetDirectoryName($path))
        $bytes = if ($file[2]) { [Convert]::FromBase64String($file[1]) } else { $utf8.GetBytes($file[1]) }
        [System.IO.File]::WriteAllBytes($path, $bytes)
    }
}

# What a handler writes on its other streams is its log; only what is left is its result.
function Test-Log($record) {
    if ($record -is [System.Management.Automation.ErrorRecord]) { [Console]::Error.WriteLine($record.ToString()) }
    elseif ($record -is [System.Management.Automation.InformationalRecord]) { [Console]::Error.WriteLine($record.Message) }
    elseif ($record -is [System.Management.Automation.InformationRecord]) { [Console]::Out.WriteLine([string] $record.MessageData) }
    else { return $false }
    $true
}

function Get-Kind($exception) {
    # What a method throws is wrapped by PowerShell's own exception. One of parameters is the
    # handler's mistake in calling something, whatever it wraps.
    for ($e = $exception; $null -ne $e; $e = $e.InnerException) {
        if ($e -is [System.Management.Automation.ParameterBindingException]) { return 'FunctionError' }
        if ($e -is [System.ArgumentException]) { return 'InputError' }
    }
    'FunctionError'
}

# Whether processes that the function started still run: the node then replaces the worker.
function Test-Left {
    foreach ($thread in [System.IO.Directory]::GetDirectories('/proc/self/task')) {
        try { $children = [System.IO.File]::ReadAllText("$thread/children") } catch { continue }
        foreach ($child in $children.Split(' ', [System.StringSplitOptions]::RemoveEmptyEntries)) {
            try { $stat = [System.IO.File]::ReadAllText("/proc/$child/stat") } catch { continue }
            if ($stat -notmatch '\) [ZX] ') { return $true }
        }
    }
    $false
}

function Get-Failure($call, [string] $type, [string] $message, [string[]] $trace) {
    $failure = [ordered] @{ err = $call; type = $type; message = $message; stacktrace = @($trace) }
    if (Test-Left) { $failure.left = 1 }
    ConvertTo-Line $failure
}

function Import-Function($order) {
    Write-Files $FUNCTION $order.files
    Set-Location $FUNCTION
    if ($order.layer) { $env:PSModulePath = $order.layer + [System.IO.Path]::PathSeparator + $env:PSModulePath }
    $at = $order.handler.LastIndexOf('::')
    $file = Join-Path $FUNCTION $order.handler.Substring(0, $at)
    $name = $order.handler.Substring($at + 2)
    if (-not (Test-Path -LiteralPath $file -PathType Leaf)) { return "$file does not exist" }
    $module = New-Module -Name function -ArgumentList $file -ScriptBlock {
        param($path)
        . $path
        Export-ModuleMember -Function *
    }
    $found = $module.ExportedFunctions[$name]
    if ($null -eq $found) { return "$($order.handler) has no function $name" }
    $parameters = @($found.ScriptBlock.Ast.Body.ParamBlock.Parameters)
    if ($found.ScriptBlock.Ast.Parameters) { $parameters = @($found.ScriptBlock.Ast.Parameters) }
    if ($parameters.Count -ne 2) { return "$name must take exactly 2 parameters (context, payload)" }
    $script:handler = $found
    $null
}

function Invoke-Handler($order) {
    $call = $order.call
    if ($order.ContainsKey('bindings')) {
        try {
            if (Test-Path -LiteralPath $BINDINGS) { Remove-Item -LiteralPath $BINDINGS -Recurse -Force }
            $null = [System.IO.Directory]::CreateDirectory($BINDINGS)
            Write-Files $BINDINGS $order.bindings
        } catch {
            return Get-Failure $call 'SystemError' "the files of its services cannot be written: $($_.Exception.Message)" @()
        }
    }
    $results = [System.Collections.Generic.List[object]]::new()
    try {
        & $handler $order.context $order.payload *>&1 | ForEach-Object { if (-not (Test-Log $_)) { $results.Add($_) } }
    } catch {
        $inner = if ($_.Exception.InnerException) { $_.Exception.InnerException } else { $_.Exception }
        return Get-Failure $call (Get-Kind $_.Exception) $inner.Message ($_.ScriptStackTrace -split "`n")
    }
    $result = switch ($results.Count) { 0 { $null } 1 { , $results[0] } default { , $results.ToArray() } }
    try {
        $payload = ConvertTo-Line $result
    } catch {
        return Get-Failure $call 'FunctionError' "the result cannot be written as JSON: $($_.Exception.Message)" @()
    }
    if ([string]::IsNullOrEmpty($payload)) { $payload = 'null' }
    $left = if (Test-Left) { ',"left":1' } else { '' }
    "{`"ok`":$call$left,`"payload`":$payload}"
}

$null = [System.IO.Directory]::CreateDirectory($FUNCTION)
Send-Line (ConvertTo-Line @{ ready = 1; version = $PSVersionTable.PSVersion.ToString() })
while ($null -ne ($line = $reader.ReadLine())) {
    $order = ConvertFrom-Json -InputObject $line -AsHashtable -Depth 200 -NoEnumerate
    if ($order.ContainsKey('call')) {
        Send-Line (Invoke-Handler $order)
        continue
    }
    try {
        $reason = Import-Function $order.init
    } catch {
        $reason = $_.Exception.Message
        [Console]::Error.WriteLine($_.ScriptStackTrace)
    }
    if ($reason) { Send-Line (ConvertTo-Line @{ fail = [string] $reason }) } else { Send-Line '{"ready":1}' }
}
[Environment]::Exit(0)

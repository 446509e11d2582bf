# PowerShell's layers: requirements.psd1 by PSDepend, which is fetched first where this node lacks it.
#
# Runs in the build sandbox, as packs/python3/build.py says.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Stop-Build([string] $reason) {
    [System.IO.File]::WriteAllText($env:REASON, $reason)
    exit 1
}

try {
    # Data only: a manifest that would run something is refused by this.
    $wanted = Import-PowerShellDataFile -LiteralPath $env:MANIFEST
} catch {
    Stop-Build "requirements.psd1: $($_.Exception.Message)"
}
# Scripts before and after, targets elsewhere and options for all of it are PSDepend's ways to run code.
$allowed = 'Name', 'Version', 'DependencyType', 'Parameters', 'Tags', 'DependsOn'
if ($wanted.ContainsKey('PSDependOptions')) {
    Stop-Build 'requirements.psd1: PSDependOptions are not supported'
}
$names = @($wanted.Keys)
if ($names.Count -eq 0) { exit 0 }
foreach ($name in $names) {
    $one = $wanted[$name]
    $isTable = $one -is [hashtable]
    $kind = if ($isTable -and $one.ContainsKey('DependencyType')) { $one.DependencyType } else { 'PSGalleryModule' }
    $module = if ($isTable -and $one.ContainsKey('Name')) { $one.Name } else { $name }
    foreach ($key in @(if ($isTable) { $one.Keys })) {
        if ($key -notin $allowed) { Stop-Build "requirements.psd1: ${name}: $key is not supported" }
    }
    $isPlain = ($isTable -or $one -is [string]) -and $kind -is [string] -and $module -is [string]
    if (-not $isPlain -or $kind -ne 'PSGalleryModule' -or "$name$module" -match '[/:]') {
        Stop-Build "requirements.psd1: ${name}: only modules from a gallery can be installed"
    }
}
try {
    $modules = Join-Path $env:CACHE 'powershell'
    $null = New-Item -ItemType Directory -Force -Path $modules
    $env:PSModulePath = $modules + [System.IO.Path]::PathSeparator + $env:PSModulePath
    if (-not (Get-Module -ListAvailable PSDepend)) { Save-Module -Name PSDepend -Path $modules -Force }
    Import-Module PSDepend
    $plain = Join-Path $env:TMPDIR 'requirements.psd1'
    Copy-Item -LiteralPath $env:MANIFEST -Destination $plain
    Invoke-PSDepend -Path $plain -Target $env:LAYER -Install -Force
    # A gallery's note of when and where it was fetched from would make two builds differ.
    Get-ChildItem -LiteralPath $env:LAYER -Recurse -Force -Filter PSGetModuleInfo.xml | Remove-Item -Force
} catch {
    [Console]::Error.WriteLine($_.Exception.Message)
    Stop-Build 'PSDepend failed:'
}

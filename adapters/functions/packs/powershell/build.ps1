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
$names = @($wanted.Keys | Where-Object { $_ -ne 'PSDependOptions' })
if ($names.Count -eq 0) { exit 0 }
foreach ($name in $names) {
    $one = $wanted[$name]
    $kind = if ($one -is [hashtable] -and $one.ContainsKey('DependencyType')) { $one.DependencyType } else { 'PSGalleryModule' }
    if ($kind -ne 'PSGalleryModule' -or $name -match '[/:]') {
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

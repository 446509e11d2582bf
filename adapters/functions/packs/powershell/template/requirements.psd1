# Modules that the function imports, such as:
# @{ Assert = '0.9.5' }
@{ }

# SPDX-License-Identifier: Apache-2.0
"""An emulator of Azure Key Vault and of what gives out tokens for it. See ../README.md."""

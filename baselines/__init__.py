"""The methods that SMEdit is compared with: one short file each."""

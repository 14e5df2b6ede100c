"""The operations of the FHIR interface, a module for each; `hub.operations.OPERATIONS` says where each is asked for."""

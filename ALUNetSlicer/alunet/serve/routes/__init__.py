"""The addresses of the service, by subject. A route reads the request and words the answer; the
work is elsewhere.
"""
